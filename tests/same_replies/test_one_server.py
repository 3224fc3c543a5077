"""On one server: our client returns and raises what redis.Redis(host, port) does."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import pytest
import redis

from ..support.servers import Server
from .clients import PROTOCOLS, SHAPES, MakeClient, Shape, our_client, plain_client
from .comparison import Comparison
from .entries import Group
from .marks import shapes
from .outcomes import Call, alone, in_pipeline, in_transaction
from .tables import LONE_NODE, ON_ONE_SERVER

GROUPS = pytest.mark.parametrize("group", ON_ONE_SERVER, ids=str)
PIPED = pytest.mark.parametrize(
    "group", [group for group in ON_ONE_SERVER if group.in_pipelines], ids=str
)


def _check(server: Server, group: Group, call: Call, make_ours: MakeClient, **plain: Any) -> None:
    with plain_client(server.port) as setup:
        make_plain = partial(plain_client, server.port, **plain)
        Comparison(setup, setup, make_plain, make_ours).check(group, call)


def _check_shape(server: Server, group: Group, call: Call, shape: Shape) -> None:
    _check(server, group, call, partial(our_client, server.url, shape), shape=shape)


@shapes(SHAPES)
@GROUPS
def test_a_command_returns_what_redis_py_does(
    permissive_valkey: Server, group: Group, shape: Shape
) -> None:
    _check_shape(permissive_valkey, group, alone, shape)


@shapes(PROTOCOLS)
@PIPED
def test_a_pipeline_returns_what_redis_py_s_does(
    permissive_valkey: Server, group: Group, shape: Shape
) -> None:
    _check_shape(permissive_valkey, group, in_pipeline, shape)


@shapes(PROTOCOLS)
@PIPED
def test_a_transaction_returns_what_redis_py_s_does(
    permissive_valkey: Server, group: Group, shape: Shape
) -> None:
    _check_shape(permissive_valkey, group, in_transaction, shape)


@contextmanager
def _redis_py_on_our_pool(url: str) -> Iterator[Any]:
    with our_client(url) as client, redis.Redis(connection_pool=client.connection_pool) as plain:
        yield plain


@contextmanager
def _client_with_one_connection(url: str) -> Iterator[Any]:
    with our_client(url) as client, client.client() as own:
        yield own


_OTHER_CLIENTS = {
    "redis.Redis on our pool": _redis_py_on_our_pool,
    "retries, no spans": partial(our_client, retries="2", trace="off"),
}


@pytest.mark.parametrize("make", _OTHER_CLIENTS.values(), ids=_OTHER_CLIENTS)
@GROUPS
def test_a_client_that_was_made_differently_returns_the_same(
    permissive_valkey: Server, group: Group, make: Any
) -> None:
    _check(permissive_valkey, group, alone, partial(make, permissive_valkey.url))


@GROUPS
def test_a_client_with_a_connection_of_its_own_returns_what_redis_py_s_does(
    permissive_valkey: Server, group: Group
) -> None:
    @contextmanager
    def plain() -> Iterator[Any]:
        with plain_client(permissive_valkey.port) as client, client.client() as own:
            yield own

    with plain_client(permissive_valkey.port) as setup:
        make_ours = partial(_client_with_one_connection, permissive_valkey.url)
        Comparison(setup, setup, plain, make_ours).check(group, alone)


@pytest.mark.parametrize("call", [alone, in_pipeline, in_transaction])
def test_a_node_without_a_cluster_is_asked_with_the_same_results(
    lone_node: Server, call: Call
) -> None:
    _check(lone_node, LONE_NODE, call, partial(our_client, lone_node.url))


@pytest.mark.parametrize("call", [alone, in_transaction])
@PIPED
def test_another_server_s_replies_are_returned_as_by_redis_py(
    permissive_redis: Server, group: Group, call: Call
) -> None:
    if permissive_redis.kind == "redis-8.2" and group.name == "the end of a connection":
        pytest.skip("Redis 8.2 takes longer to refuse a login than redis-py waits")
    _check(permissive_redis, group, call, partial(our_client, permissive_redis.url))
