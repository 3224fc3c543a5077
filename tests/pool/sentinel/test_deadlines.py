"""A deadline bounds the search for the primary as well."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

from pyramid_baseplate_redis import DeadlineExceededError, is_retryable

from ...support.topologies import SentinelSet, frozen
from .conftest import MakeFoo, pool_of

SECONDS = 0.3
DEADLINE = "300 ms"
SLACK = 0.4  # for a busy machine


def exceeded(call: Callable[[], Any]) -> DeadlineExceededError:
    started = time.monotonic()
    with pytest.raises(DeadlineExceededError) as caught:
        call()
    assert SECONDS - 0.02 < time.monotonic() - started < SECONDS + SLACK
    return caught.value


def test_frozen_sentinels_are_bounded(make_foo: MakeFoo, valkeys: SentinelSet) -> None:
    foo = make_foo(valkeys, deadline=DEADLINE, breaker_failures="1")
    with frozen(valkeys.sentinels):
        error = exceeded(lambda: foo.incr("count"))
    assert error.phase == "asking the Sentinels for a server"
    assert error.spent[error.phase] == pytest.approx(SECONDS, abs=0.1)
    assert is_retryable(error) is True  # the questions to the Sentinels are not the command
    assert pool_of(foo).stats.in_use == 0
    assert foo.incr("count") == 1  # the breaker is closed


def test_a_frozen_primary_is_bounded(make_foo: MakeFoo, valkeys: SentinelSet) -> None:
    foo = make_foo(valkeys, deadline=DEADLINE)
    foo.ping()
    with frozen([valkeys.primary()]):
        error = exceeded(lambda: foo.incr("count"))
        assert error.phase == "waiting for the reply"
        assert is_retryable(error) is None
    assert pool_of(foo).stats.in_use == 0
