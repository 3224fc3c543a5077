"""On which connection and node a queue's commands are sent."""

from __future__ import annotations

import threading
import time
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock, call

import pytest
import redis
from opentelemetry.trace import INVALID_SPAN

from pyramid_baseplate_redis.queues.raw_commands import (
    RawClient,
    client_of,
    is_no_group,
    is_unblocked,
    telemetry_of,
)
from pyramid_baseplate_redis.telemetry.operations import ClientTelemetry

from .fakes import Connection

ERROR = redis.ResponseError("WRONGTYPE")
GET, SET = ("GET", "a"), ("SET", "a", "b")

# On a pool


class Pool:
    def __init__(self, *connections: Any) -> None:
        self.connections = list(connections)
        self.released: list[Any] = []

    def get_connection(self) -> Any:
        made = self.connections.pop(0)
        if isinstance(made, Exception):
            raise made
        return made

    def release(self, connection: Any) -> None:
        self.released.append(connection)


def client_on(pool: Any, **attributes: Any) -> RawClient:
    client = SimpleNamespace(connection_pool=pool, connection=None, **attributes)
    client.client_telemetry = Mock(spec=ClientTelemetry)
    return RawClient(client, "a")


def test_a_connection_is_released_after_the_work() -> None:
    connection = Connection(b"b")
    pool = Pool(connection)
    assert client_on(pool).run(lambda ask: ask(GET)) == [b"b"]
    assert pool.released == [connection]


def test_a_connection_is_released_after_a_failure() -> None:
    connection = Connection(ERROR)
    pool = Pool(connection)
    with pytest.raises(redis.ResponseError):
        client_on(pool).run(lambda ask: ask(GET))
    assert pool.released == [connection]


def test_a_connection_that_cannot_be_made_has_sent_nothing() -> None:
    raw = client_on(Pool(redis.ConnectionError("refused")))
    with pytest.raises(redis.ConnectionError) as caught:
        raw.run(lambda ask: ask(GET))
    assert caught.value.unsent is True
    assert raw.connection_failures == 1


@pytest.mark.parametrize(
    ("error", "failures"),
    [(redis.ConnectionError("gone"), 1), (redis.TimeoutError(), 1), (ERROR, 0)],
)
def test_failed_connections_are_counted(error: Exception, failures: int) -> None:
    raw = client_on(Pool(Connection(error)))
    assert raw.connection_failures == 0
    with pytest.raises(redis.RedisError):
        raw.run(lambda ask: ask(GET))
    assert raw.connection_failures == failures


@pytest.mark.parametrize("blocks", [False, True])
def test_the_clients_deadline_bounds_all_but_waits(blocks: bool) -> None:
    deadlines = Mock()
    deadlines.run.side_effect = lambda call: call()
    raw = client_on(Pool(Connection(b"b")), deadlines=deadlines)
    assert raw.run(lambda ask: ask(GET), blocks=blocks) == [b"b"]
    assert deadlines.run.called is not blocks


def test_without_further_words_a_command_is_bounded() -> None:
    deadlines = Mock()
    client_on(Pool(Connection(b"b")), deadlines=deadlines).run(lambda ask: ask(GET))
    assert deadlines.run.called


def test_the_keys_of_commands_are_sampled_if_the_pool_counts_them() -> None:
    pool = Pool()
    pool.hot_keys = Mock()  # type: ignore[attr-defined]
    client_on(pool).sample(GET, SET)
    assert pool.hot_keys.sample.mock_calls == [call(GET), call(SET)]  # type: ignore[attr-defined]
    client_on(Pool()).sample(GET)  # which does not count


def test_a_client_without_a_server_span_has_none() -> None:
    assert client_on(Pool()).server_span is INVALID_SPAN
    span = Mock()
    assert client_on(Pool(), server_span=span).server_span is span


# On a connection that the client keeps


def kept(connection: Connection, **attributes: Any) -> RawClient:
    raw = client_on(Pool(), single_connection_lock=threading.Lock(), **attributes)
    raw._client.connection = connection
    return raw


def test_a_client_that_keeps_a_connection_uses_it() -> None:
    connection = Connection(b"b")
    assert kept(connection).run(lambda ask: ask(GET)) == [b"b"]
    assert connection.disconnected == 0


@pytest.mark.parametrize("owes", [True, False])
def test_a_kept_connection_with_an_unread_reply_is_closed_first(owes: bool) -> None:
    connection = Connection(b"b")
    connection.owes_replies = owes  # type: ignore[attr-defined]
    kept(connection).run(lambda ask: ask(GET))
    assert connection.disconnected == int(owes)


def test_the_lock_of_a_monitored_client_is_held() -> None:
    lock = threading.Lock()
    raw = kept(Connection(b"b"), connection_lock=lock)
    assert raw.run(lambda ask: lock.locked())
    assert not lock.locked()


# In a Cluster


class Cluster:
    """A Cluster whose nodes have these connections, by port."""

    def __init__(self, connections: dict[int, list[Any]]) -> None:
        self.pools = {port: Pool(*each) for port, each in connections.items()}
        self.owner = min(connections)
        self.asked: list[int] = []
        self.nodes_manager = Mock()
        self.nodes_manager.move_slot.side_effect = self._move_slot
        self.refreshed = self.owner
        self.nodes_manager.initialize.side_effect = self._initialize

    def _move_slot(self, error: Any) -> None:
        self.owner = error.port

    def _initialize(self, **_: Any) -> None:
        self.owner = self.refreshed

    def node(self, port: int) -> Any:
        return SimpleNamespace(name=f"127.0.0.1:{port}", port=port)

    def get_node(self, host: str, port: int) -> Any:
        return self.node(port)

    def get_node_from_key(self, key: str) -> Any:
        assert key == "a"
        return self.node(self.owner)

    def get_redis_connection(self, node: Any) -> Any:
        self.asked.append(node.port)
        return SimpleNamespace(connection_pool=self.pools[node.port])


def asked_at_8() -> Connection:
    return Connection(redis.exceptions.AskError("1 127.0.0.1:8"))


def in_cluster(cluster: Cluster) -> RawClient:
    pool = SimpleNamespace(cluster=lambda: cluster)
    raw = client_on(pool)
    raw.in_cluster = True
    return raw


def test_a_moved_slot_is_followed_and_remembered() -> None:
    cluster = Cluster({7: [Connection(redis.exceptions.MovedError("1 127.0.0.1:8"))],
                       8: [Connection(b"b"), Connection(b"c")]})  # fmt: skip
    raw = in_cluster(cluster)
    assert raw.run(lambda ask: ask(GET)) == [b"b"]
    assert raw.run(lambda ask: ask(GET)) == [b"c"]
    assert cluster.asked == [7, 8, 8]


def test_a_slot_that_is_moving_is_followed_once() -> None:
    target = Connection(b"OK", b"b")
    cluster = Cluster({7: [asked_at_8(), Connection(b"c")],
                       8: [target]})  # fmt: skip
    raw = in_cluster(cluster)
    assert raw.run(lambda ask: ask(GET)) == [b"b"]
    assert target.sent == [("ASKING",), GET]
    assert raw.run(lambda ask: ask(GET)) == [b"c"]


def test_a_slot_that_has_moved_while_it_was_moving_is_asked_without_asking() -> None:
    moved = redis.exceptions.MovedError("1 127.0.0.1:9")
    last = Connection(b"b")
    cluster = Cluster({7: [asked_at_8()],
                       8: [Connection(b"OK", moved)], 9: [last]})  # fmt: skip
    assert in_cluster(cluster).run(lambda ask: ask(GET)) == [b"b"]
    assert last.sent == [GET]


def test_a_node_that_asks_to_try_again_is_tried_after_a_pause(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pauses: list[float] = []
    monkeypatch.setattr(time, "sleep", pauses.append)
    again = redis.exceptions.TryAgainError("TRYAGAIN")
    cluster = Cluster({7: [Connection(again), Connection(b"b")]})
    assert in_cluster(cluster).run(lambda ask: ask(GET)) == [b"b"]
    assert pauses == [0.05]


def test_endless_redirections_are_an_error_after_sixteen_attempts() -> None:
    here = redis.exceptions.MovedError("1 127.0.0.1:7")
    cluster = Cluster({7: [Connection(here) for _ in range(20)]})
    with pytest.raises(redis.exceptions.ClusterError, match=r"^a: redirected too often$"):
        in_cluster(cluster).run(lambda ask: ask(GET))
    assert len(cluster.asked) == 16


def test_a_node_that_cannot_be_reached_is_replaced_by_the_one_of_the_new_layout() -> None:
    cluster = Cluster({7: [redis.ConnectionError("refused")], 8: [Connection(b"b")]})
    cluster.refreshed = 8
    assert in_cluster(cluster).run(lambda ask: ask(GET)) == [b"b"]
    assert cluster.nodes_manager.initialize.mock_calls == [
        call(last_failed_node_name="127.0.0.1:7")
    ]


def test_a_second_node_that_cannot_be_reached_is_an_error() -> None:
    refused = [redis.ConnectionError("refused")]
    cluster = Cluster({7: refused * 1, 8: list(refused), 9: [Connection(b"b")]})
    layouts = iter([8, 9])
    cluster.nodes_manager.initialize.side_effect = lambda **_: setattr(
        cluster, "owner", next(layouts)
    )
    with pytest.raises(redis.ConnectionError, match="refused"):
        in_cluster(cluster).run(lambda ask: ask(GET))
    assert cluster.asked == [7, 8]


def test_a_command_that_may_have_been_executed_is_not_repeated() -> None:
    cluster = Cluster({7: [Connection(redis.ConnectionError("gone"))], 8: [Connection(b"b")]})
    cluster.refreshed = 8
    with pytest.raises(redis.ConnectionError, match="gone"):
        in_cluster(cluster).run(lambda ask: ask(GET))
    assert cluster.asked == [7]


def test_a_node_that_the_new_layout_still_names_is_tried_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cluster = Cluster({7: [redis.ConnectionError("refused"), Connection(b"b")]})
    same = cluster.node(7)
    monkeypatch.setattr(cluster, "node", lambda port: same)
    with pytest.raises(redis.ConnectionError, match="refused"):
        in_cluster(cluster).run(lambda ask: ask(GET))
    assert cluster.asked == [7]


def test_a_failed_refresh_does_not_hide_the_nodes_error() -> None:
    cluster = Cluster({7: [Connection(redis.ConnectionError("gone"))]})
    cluster.nodes_manager.initialize.side_effect = redis.exceptions.RedisClusterException("no")
    with pytest.raises(redis.ConnectionError, match="gone"):
        in_cluster(cluster).run(lambda ask: ask(GET))


def test_a_node_that_fails_while_a_slot_moves_to_it_is_not_replaced() -> None:
    cluster = Cluster({7: [asked_at_8(), Connection(b"b")],
                       8: [redis.ConnectionError("refused")]})  # fmt: skip
    with pytest.raises(redis.ConnectionError, match="refused"):
        in_cluster(cluster).run(lambda ask: ask(GET))
    assert cluster.asked == [7, 8]


@pytest.mark.parametrize(
    "error", [redis.exceptions.MaxConnectionsError("none"), redis.AuthenticationError("wrong")],
    ids=repr,
)  # fmt: skip
def test_an_error_that_is_not_the_nodes_refreshes_no_layout(error: Exception) -> None:
    cluster = Cluster({7: [error]})
    with pytest.raises(type(error)):
        in_cluster(cluster).run(lambda ask: ask(GET))
    assert not cluster.nodes_manager.initialize.called


@pytest.mark.parametrize(
    "error",
    [redis.exceptions.ClusterDownError("down"), redis.exceptions.SlotNotCoveredError("none")],
    ids=repr,
)
def test_an_outdated_layout_is_refreshed_for_the_next_call(error: Exception) -> None:
    cluster = Cluster({7: [Connection(error)], 8: [Connection(b"b")]})
    cluster.refreshed = 8
    raw = in_cluster(cluster)
    with pytest.raises(type(error)):
        raw.run(lambda ask: ask(GET))
    assert raw.run(lambda ask: ask(GET)) == [b"b"]


# Errors and clients


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("NOGROUP No such key", True),
        ("ERR no such key", True),
        ("UNBLOCKED the stream key no longer exists", True),
        ("ERR NOGROUP", False),
    ],
)
def test_the_errors_of_a_missing_group_are_known(text: str, expected: bool) -> None:
    assert is_no_group(redis.ResponseError(text)) is expected


def test_the_error_of_an_ended_wait_is_known() -> None:
    assert is_unblocked(redis.ResponseError("UNBLOCKED client unblocked"))
    assert not is_unblocked(redis.ResponseError("ERR UNBLOCKED"))


def test_a_client_is_used_as_it_is_and_a_pool_gets_one() -> None:
    pool = redis.ConnectionPool()
    client = redis.Redis(connection_pool=pool)
    assert client_of(client) is client
    assert client_of(pool).connection_pool is pool


def test_the_spans_of_a_plain_client_are_named_after_redis() -> None:
    assert telemetry_of(redis.Redis()).context_name == "redis"
