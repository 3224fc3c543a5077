"""With Sentinels: our client returns and raises what redis.Redis does on the primary's address."""

from __future__ import annotations

from functools import partial

import pytest

from ..support.topologies import SentinelSet
from .clients import our_client, plain_client
from .comparison import Comparison
from .entries import Group
from .outcomes import Call, alone, in_pipeline, in_transaction
from .tables import SENTINELS, WITH_SENTINELS

GROUPS = pytest.mark.parametrize("group", WITH_SENTINELS, ids=str)
PIPED = pytest.mark.parametrize(
    "group", [group for group in WITH_SENTINELS if group.in_pipelines], ids=str
)


@pytest.fixture
def primary(quick_sentinels: SentinelSet) -> int:
    """The port of the primary."""
    return quick_sentinels.primary().port


def _check(sentinels: SentinelSet, port: int, group: Group, call: Call) -> None:
    with plain_client(port) as setup:
        Comparison(
            setup, setup, partial(plain_client, port), partial(our_client, sentinels.url)
        ).check(group, call)


@GROUPS
def test_a_command_returns_what_redis_py_does(
    quick_sentinels: SentinelSet, primary: int, group: Group
) -> None:
    _check(quick_sentinels, primary, group, alone)


@pytest.mark.parametrize("call", [in_pipeline, in_transaction])
@PIPED
def test_a_pipeline_returns_what_redis_py_s_does(
    quick_sentinels: SentinelSet, primary: int, group: Group, call: Call
) -> None:
    _check(quick_sentinels, primary, group, call)


@pytest.mark.parametrize("call", [alone, in_pipeline])
def test_a_sentinel_is_asked_with_the_same_results(
    quick_sentinels: SentinelSet, call: Call
) -> None:
    sentinel = quick_sentinels.sentinels[0]
    with plain_client(sentinel.port) as setup:
        Comparison(
            setup, setup, partial(plain_client, sentinel.port), partial(our_client, sentinel.url)
        ).check(SENTINELS, call)
