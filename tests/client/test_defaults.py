"""Without arguments, the monitored client does as redis-py's does."""

from __future__ import annotations

import inspect
import os
from typing import Any
from unittest.mock import Mock

import pytest
import redis
from redis.lock import Lock

from pyramid_baseplate_redis import MonitoredRedisConnection

from ..support.servers import MakeClient, Server

OF_A_LOCK = (
    "timeout", "sleep", "blocking", "blocking_timeout", "thread_local", "raise_on_release_error",
)  # fmt: skip


@pytest.fixture
def client() -> MonitoredRedisConnection:
    return MonitoredRedisConnection("foo", None, redis.ConnectionPool())


@pytest.mark.parametrize("name", OF_A_LOCK)
def test_a_lock_has_the_defaults_of_redis_py(client: MonitoredRedisConnection, name: str) -> None:
    def default(method: Any) -> Any:
        return inspect.signature(method).parameters[name].default

    assert default(client.lock) == default(redis.Redis.lock)


def test_the_options_of_a_lock_are_passed_on(client: MonitoredRedisConnection) -> None:
    class Own(Lock):
        pass

    lock = client.lock(
        "key", 7, sleep=0.5, blocking=False, blocking_timeout=3, lock_class=Own,
        thread_local=False, raise_on_release_error=False,
    )  # fmt: skip
    assert isinstance(lock, Own)
    assert (lock.timeout, lock.sleep, lock.blocking, lock.blocking_timeout) == (7, 0.5, False, 3)
    assert (lock.thread_local, lock.raise_on_release_error) == (False, False)


@pytest.mark.parametrize(
    ("args", "name", "transaction", "shard_hint"),
    [
        ((), "foo.pipeline", True, None),
        (("load",), "foo.pipeline_load", True, None),
        (("load", False, "hint"), "foo.pipeline_load", False, "hint"),
        ((False,), "foo.pipeline", False, None),
        ((False, "hint"), "foo.pipeline", False, "hint"),
        ((True, True, "hint"), "foo.pipeline", True, "hint"),
    ],
)
def test_a_pipeline_takes_a_name_or_the_arguments_of_redis_py(
    client: MonitoredRedisConnection, args: Any, name: str, transaction: bool, shard_hint: Any
) -> None:
    pipeline = client.pipeline(*args)
    assert pipeline.trace_name == name
    assert (pipeline.transaction, pipeline.shard_hint) == (transaction, shard_hint)


def test_a_url_in_the_place_of_the_name_is_refused_without_showing_it() -> None:
    with pytest.raises(TypeError, match="context_name: is not the name of a client") as caught:
        MonitoredRedisConnection("redis://:secret@localhost")
    assert "secret" not in str(caught.value)


def test_a_client_without_a_pool_makes_one() -> None:
    client = MonitoredRedisConnection(host="example.org")
    assert client.context_name == "redis"
    assert client.connection_pool.connection_kwargs["host"] == "example.org"


# Copies


def test_a_copy_shares_the_callbacks_until_one_of_both_sets_its_own(
    client: MonitoredRedisConnection,
) -> None:
    copy = client.bound_to(client.server_span)
    assert copy.response_callbacks is client.response_callbacks
    copy.set_response_callback("GET", str)
    copy.set_response_callback("SET", str)
    assert copy.response_callbacks["GET"] is str
    assert client.response_callbacks.get("GET") is not str
    again = client.bound_to(client.server_span)
    client.set_response_callback("GET", repr)
    assert again.response_callbacks.get("GET") is not repr


def test_a_client_that_was_not_copied_changes_its_own_callbacks(
    client: MonitoredRedisConnection,
) -> None:
    before = client.response_callbacks
    client.set_response_callback("GET", str)
    assert client.response_callbacks is before


def test_a_copy_does_not_hold_what_the_original_holds(client: MonitoredRedisConnection) -> None:
    client.connection = Mock(pid=os.getpid())
    client.pipeline()
    copy = client.bound_to(client.server_span)
    assert (copy._held, copy.connection) == (None, None)
    assert copy.auto_close_connection_pool is False
    assert copy._is_borrowed is False
    client.connection = None


def test_the_client_of_a_block_holds_what_the_original_holds(
    client: MonitoredRedisConnection,
) -> None:
    connection = client.connection = Mock(pid=os.getpid())
    within = client.within(5)
    assert within.connection is connection
    assert (within._held, within._is_borrowed) == (client._held, True)
    within.close()
    del within
    assert client.connection is connection
    assert not connection.disconnect.called
    client.connection = None


# A client that keeps its connection


def test_a_kept_connection_of_redis_py_is_used_again(valkey: Server) -> None:
    """It does not know whether a reply is still to be read."""
    pool = redis.ConnectionPool(port=valkey.port)
    with MonitoredRedisConnection("foo", None, pool).client() as single:
        assert single.client_id() == single.client_id()
    pool.disconnect()


def test_a_kept_connection_that_owes_a_reply_is_closed_first(
    valkey: Server, make_client: MakeClient
) -> None:
    with make_client(valkey).client() as single:
        before = single.client_id()
        connection: Any = single.connection
        connection._owed = 1
        assert single.client_id() != before


def test_a_connection_that_was_kept_before_a_fork_is_closed_and_not_returned(
    client: MonitoredRedisConnection,
) -> None:
    connection = client.connection = Mock(pid=os.getpid() + 1)
    client.connection_pool.release = Mock()  # type: ignore[method-assign]
    client.close()
    assert connection.disconnect.called
    assert client.connection is None
    assert not client.connection_pool.release.called


def test_a_kept_connection_is_returned_as_it_is(client: MonitoredRedisConnection) -> None:
    connection = client.connection = Mock(pid=os.getpid())
    client.connection_pool.release = Mock()  # type: ignore[method-assign]
    client.close()
    client.connection_pool.release.assert_called_once_with(connection)
    assert not connection.disconnect.called


def test_a_client_that_is_forgotten_closes_its_connection(
    client: MonitoredRedisConnection,
) -> None:
    connection = client.connection = Mock(pid=os.getpid())
    connection.disconnect.side_effect = OSError  # which is not shown
    client.connection_pool.release = Mock()  # type: ignore[method-assign]
    client.__del__()
    assert connection.disconnect.called
    client.connection = None


def test_a_client_that_keeps_a_connection_belongs_to_the_same_request(
    valkey: Server, make_client: MakeClient
) -> None:
    client = make_client(valkey)
    client.transaction_manager = manager = Mock()
    client.observed_by(Mock())
    with client.client() as single:
        assert single.connection is not None
        assert single.transaction_manager is manager
        assert single.client_telemetry is client.client_telemetry
        assert (single.context_name, single.server_span) == ("foo", client.server_span)


# Commands


@pytest.mark.parametrize(("command", "reads"), [(("GET", "a"), True), (("SET", "a", "b"), False)])
def test_only_a_command_that_reads_is_repeated_after_a_lost_reply(
    client: MonitoredRedisConnection, command: tuple[str, ...], reads: bool
) -> None:
    client._retry = Mock()
    client.execute_command(*command)
    assert client._retry.call.call_args.kwargs == {"reads": reads}
    client.connection = Mock(owes_replies=False, pid=os.getpid())
    client.execute_command(*command)
    assert client._retry.call.call_args.kwargs == {"reads": reads}
    client.connection = None


def test_a_durable_queue_has_the_transaction_manager_of_the_client(
    client: MonitoredRedisConnection,
) -> None:
    first, own = Mock(), Mock()
    client.transaction_manager = first
    assert client.durable_queue("jobs").transaction_manager is first
    assert client.durable_queue("jobs", transaction_manager=own).transaction_manager is own
