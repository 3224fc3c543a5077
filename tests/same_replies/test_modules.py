"""Commands of modules, which no server here has, are parsed by redis-py's own functions."""

from __future__ import annotations

from typing import Any

import pytest
import redis

from .clients import SHAPES, Shape, our_client, plain_client

NOWHERE = 1  # a port; nothing is sent

_MODULES = ("json", "ts", "bf", "cf", "cms", "topk", "tdigest", "vset")


def _parsers(client: Any) -> dict[str, Any]:
    """The functions that parse the replies, by command; each client has lambdas of its own."""
    callbacks = client.response_callbacks.items()
    return {name: getattr(function, "__code__", function) for name, function in callbacks}


def _with_modules(client: redis.Redis) -> dict[str, Any]:
    for name in _MODULES:
        getattr(client, name)()
    return _parsers(client)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_a_module_s_replies_are_parsed_as_by_redis_py(shape: Shape) -> None:
    with plain_client(NOWHERE, shape) as plain, our_client("redis://127.0.0.1:1", shape) as ours:
        assert _with_modules(ours) == _with_modules(plain)


@pytest.mark.parametrize("module", ["json", "ts", "ft"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_a_module_s_pipeline_parses_as_redis_py_s_does(shape: Shape, module: str) -> None:
    with plain_client(NOWHERE, shape) as plain, our_client("redis://127.0.0.1:1", shape) as ours:
        expected = getattr(plain, module)().pipeline()
        assert _parsers(getattr(ours, module)().pipeline()) == _parsers(expected)
