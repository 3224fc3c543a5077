"""A Cluster's pipelines go to their nodes directly, with the results and errors of redis-py's way.

Each test does the same in both ways.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any

import pytest
import redis

from pyramid_baseplate_redis import MonitoredRedisClusterConnection
from pyramid_baseplate_redis.cluster.direct_pipeline import DirectPipelineStrategy
from pyramid_baseplate_redis.pool.direct import connection as direct_connection
from pyramid_baseplate_redis.telemetry.metrics import PoolListener

from ..pool.direct.both_ways import chain, described
from ..support.topologies import Cluster, Node
from .conftest import MakeClusterClient, another, one_key_each

Client = MonitoredRedisClusterConnection
Change = Callable[[Client], Any]


@pytest.fixture
def names(cluster: Cluster) -> list[str]:
    return one_key_each(cluster)


@pytest.fixture
def compared(
    cluster: Cluster, make: MakeClusterClient, monkeypatch: pytest.MonkeyPatch, names: list[str]
) -> Callable[..., Any]:
    """Execute the same pipeline in each way, and return its results or the errors.

    The parameters are what is queued, what happens before it is executed, what happens after it
    was, whether anything is sent, and settings.
    """

    def compared(
        queue: Callable[[Any], Any],
        change: Change = lambda client: None,
        undo: Callable[[], Any] = lambda: None,
        *,
        sends: bool = True,
        raises: bool = False,
        **settings: str,
    ) -> Any:
        outcomes = []
        owner = direct_connection.DirectConnection
        send_all = owner.send_all
        for is_direct in (True, False):
            with monkeypatch.context() as patch:
                sent = []

                def noted(self: Any, *args: Any, sent: list[Any] = sent) -> Any:
                    sent.append(args)
                    send_all(self, *args)

                patch.setattr(owner, "send_all", noted)
                if not is_direct:
                    patch.setattr(direct_connection, "qualifies", lambda *args: False)
                    patch.setattr(DirectPipelineStrategy, "_is_direct", lambda *args: False)
                client = make(cluster, **settings)
                for name in names:
                    client.delete(name, f"{{{name}}}:h", f"{{{name}}}:z")
                sent.clear()
                change(client)
                connects = Connects()
                client.connection_pool.listeners.append(connects)
                outcomes.append(outcome(client, queue, raises))
                assert bool(sent) is (is_direct and sends)
                undo()
                stored = [described(client.getrange(name, 0, -1)) for name in names]
                outcomes[-1] |= {"afterward": stored, "connects": connects.count}
        if not sends:
            for each in outcomes:
                # The layout is refreshed from any node, on a new connection.
                del each["stats"], each["connects"]
        directly, otherwise = outcomes
        assert directly == otherwise
        return directly["found"]

    return compared


class Connects(PoolListener):
    """Counts the connections that are made."""

    count = 0

    def created(self, since: float) -> None:
        self.count += 1


def outcome(client: Client, queue: Callable[[Any], Any], raises: bool) -> dict[str, Any]:
    found: Any
    pipeline = client.pipeline("some")
    try:
        queue(pipeline)
        found = described(pipeline.execute(raise_on_error=raises))
    except BaseException as error:
        found = chain(error)
    pool = client.connection_pool
    return {
        "found": found,
        "stats": pool.stats,
        "in use": [each.stats.in_use for each in pool.pools],
        "refreshes": client.reinitialize_counter,
    }


class Silent:
    """A socket that sends nothing, and whose server does not answer."""

    def __init__(self, real: Any, *, closes: bool) -> None:
        self._real = real
        self._closes = closes

    def sendall(self, data: bytes) -> None:
        if self._closes:
            self._real.shutdown(socket.SHUT_RD)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)


def pool_of(client: Client, node: Node) -> Any:
    return next(
        each for each in client.connection_pool.pools if each.connection_kwargs["port"] == node.port
    )


def with_connection(client: Client, node: Node, change: Callable[[Any], Any]) -> None:
    """Change the connection that the next check-out of a node gets."""
    pool = pool_of(client, node)
    connection = pool.get_connection()
    change(connection)
    pool.release(connection)


@pytest.mark.parametrize("raises", [False, True])
@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1)], ids=str)
@pytest.mark.parametrize("settings", [{}, {"decode_responses": "true"}], ids=str)
def test_replies_of_several_nodes(
    compared: Any,
    names: list[str],
    raises: bool,
    order: tuple[int, ...],
    settings: dict[str, str],
) -> None:
    def queue(pipeline: Any) -> None:
        for index in order:
            name = names[index]
            pipeline.set(name, index, ex=60).get(name).incr(name, 3)
            pipeline.hset(f"{{{name}}}:h", mapping={"a": 1}).hgetall(f"{{{name}}}:h")
            pipeline.zadd(f"{{{name}}}:z", {"a": 1.5})
            pipeline.zrange(f"{{{name}}}:z", 0, -1, withscores=True)
            pipeline.get(f"{{{name}}}:none").ttl(name)

    compared(queue, raises=raises, **settings)


@pytest.mark.parametrize("raises", [False, True])
def test_errors_in_the_middle(compared: Any, names: list[str], raises: bool) -> None:
    def queue(pipeline: Any) -> None:
        for name in names[::-1]:
            pipeline.set(name, "text").lpush(name, "x").get(name).incr(name)

    compared(queue, raises=raises)


def test_an_argument_that_cannot_be_sent(compared: Any, names: list[str]) -> None:
    def queue(pipeline: Any) -> None:
        pipeline.set(names[0], "x").set(names[1], None).set(names[2], "y")

    found = compared(queue)

    assert found[0][0] is redis.DataError


@pytest.mark.parametrize("raises", [False, True])
def test_a_callback_that_fails(compared: Any, names: list[str], raises: bool) -> None:
    def change(client: Client) -> None:
        def fail(reply: Any, **options: Any) -> None:
            raise redis.RedisError("the callback failed")

        for node in client.get_primaries():
            node.redis_connection.response_callbacks["GET"] = fail

    compared(lambda pipeline: [pipeline.set(name, 1).get(name) for name in names], change,
             raises=raises)  # fmt: skip


def test_a_callback_with_a_bug_leaves_no_connection_in_use(compared: Any, names: list[str]) -> None:
    def change(client: Client) -> None:
        def fail(reply: Any, **options: Any) -> None:
            raise KeyError(reply)

        for node in client.get_primaries():
            node.redis_connection.response_callbacks["STRLEN"] = fail

    found = compared(
        lambda pipeline: [pipeline.set(name, 1).strlen(name) for name in names], change
    )

    assert found[0][0] is KeyError


@pytest.mark.parametrize("raises", [False, True])
@pytest.mark.parametrize("closes", [True, False], ids=["closed", "silent"])
@pytest.mark.parametrize("lost", [0, 1, 2])
def test_replies_that_are_lost(
    compared: Any, cluster: Cluster, names: list[str], lost: int, closes: bool, raises: bool
) -> None:
    def change(client: Client) -> None:
        def silence(connection: Any) -> None:
            connection._sock = Silent(connection._sock, closes=closes)

        with_connection(client, cluster.node_of(names[lost]), silence)

    def queue(pipeline: Any) -> None:
        for name in names:
            pipeline.set(name, "x").incr(name)

    seconds = "5 seconds" if closes else "0.5 seconds"
    compared(queue, change, raises=raises, socket_timeout=seconds)


def test_a_node_to_which_nothing_can_be_sent(
    compared: Any, cluster: Cluster, names: list[str]
) -> None:
    def change(client: Client) -> None:
        def fail(connection: Any) -> None:
            class Broken(Silent):
                def sendall(self, data: bytes) -> None:
                    raise BrokenPipeError(32, "Broken pipe")

            connection._sock = Broken(connection._sock, closes=False)

        with_connection(client, cluster.node_of(names[1]), fail)

    compared(lambda pipeline: [pipeline.set(name, "x").get(name) for name in names], change)


class Interrupted(BaseException):
    """Raised by a signal handler."""


@pytest.mark.parametrize("method", ["sendall", "recv_into"])
@pytest.mark.parametrize("node", [0, 1, 2])
def test_an_interruption(
    compared: Any, cluster: Cluster, names: list[str], node: int, method: str
) -> None:
    def change(client: Client) -> None:
        def interrupt(connection: Any) -> None:
            def interrupted(*args: Any) -> None:
                raise Interrupted

            wrapped: Any = Silent(connection._sock, closes=False)
            setattr(wrapped, method, interrupted)
            connection._sock = connection._parser._sock = wrapped

        with_connection(client, cluster.node_of(names[node]), interrupt)

    found = compared(lambda pipeline: [pipeline.incr(name) for name in names], change)

    assert found[0][0] is Interrupted


@pytest.mark.parametrize("node", [0, 1, 2])
def test_a_connection_that_is_not_direct(
    compared: Any, cluster: Cluster, names: list[str], node: int
) -> None:
    def change(client: Client) -> None:
        def decide(connection: Any) -> None:
            connection.is_direct = False

        with_connection(client, cluster.node_of(names[node]), decide)

    compared(lambda pipeline: [pipeline.set(name, "x").incr(name) for name in names], change)


@pytest.mark.parametrize("dead", [0, 1, 2])
def test_a_node_that_refuses_connections(
    compared: Any, cluster: Cluster, names: list[str], dead: int
) -> None:
    refusing = []

    def change(client: Client) -> None:
        pool = pool_of(client, cluster.node_of(names[dead]))

        def refuse(*args: Any) -> None:
            error = redis.ConnectionError("the node refuses")
            error.unsent = True  # type: ignore[attr-defined]
            raise error

        pool.get_connection = refuse
        refusing.append(pool)

    def undo() -> None:
        del refusing.pop().get_connection

    def queue(pipeline: Any) -> None:
        for name in names:
            pipeline.set(name, "x").get(name)

    compared(queue, change, undo, sends=False)


def test_a_slot_that_has_moved(compared: Any, cluster: Cluster, names: list[str]) -> None:
    source = cluster.node_of(names[0])
    target = another(cluster, source)

    def change(client: Client) -> None:
        cluster.migrate_slot(cluster.slot_of(names[0]), source, target)

    def queue(pipeline: Any) -> None:
        for name in names:
            pipeline.set(name, "x").lpush(name, "y").get(name)

    def undo() -> None:
        cluster.migrate_slot(cluster.slot_of(names[0]), target, source)

    compared(queue, change, undo)


def test_a_slot_that_is_migrated(compared: Any, cluster: Cluster, names: list[str]) -> None:
    """Its node answers ASK for the keys that it does not have."""
    source = cluster.node_of(names[0])
    target, slot = another(cluster, source), cluster.slot_of(names[0])

    def change(client: Client) -> None:
        cluster.begin_migration(slot, source, target)

    def queue(pipeline: Any) -> None:
        for name in names[::-1]:
            pipeline.set(name, "x").lpush(name, "y").get(name)

    def undo() -> None:
        cluster.finish_migration(slot, source, target)
        cluster.migrate_slot(slot, target, source)

    compared(queue, change, undo)
