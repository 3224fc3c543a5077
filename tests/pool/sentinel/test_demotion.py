"""A primary that was demoted before any Sentinel announced it: its connections are closed."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import redis

from pyramid_baseplate_redis import MonitoredRedisConnection, is_retryable

from ...support.topologies import Node, SentinelSet
from .conftest import WRITE_SCRIPT, ask, error_of, pool_of


@pytest.fixture
def demoted(valkeys: SentinelSet) -> Iterator[Callable[[], Node]]:
    """Make a replica of the primary, of which the Sentinels hear only later."""
    primary = valkeys.primary()

    def demote() -> Node:
        primary.client.replicaof("127.0.0.1", "1")
        return primary

    yield demote
    primary.client.replicaof("NO", "ONE")


def test_a_write_to_a_demoted_primary_is_a_connection_error(
    foo: MonitoredRedisConnection, demoted: Callable[[], Node]
) -> None:
    foo.ping()
    old = demoted()
    error = error_of(lambda: foo.set("key", "value"))
    assert isinstance(error, redis.ConnectionError)
    assert str(error) == f"foo: The previous master is now a slave ({old.address})"
    assert is_retryable(error) is True  # it was refused


def test_a_write_to_a_demoted_primary_closes_the_other_idle_connections(
    foo: MonitoredRedisConnection, demoted: Callable[[], Node]
) -> None:
    pool = pool_of(foo)
    for connection in [pool.get_connection() for _ in range(3)]:
        pool.release(connection)
    demoted()
    error_of(lambda: foo.set("key", "value"))
    assert pool.stats.open == 0


def test_a_refusal_that_redis_pys_code_reads_closes_the_other_idle_connections(
    foo: MonitoredRedisConnection, demoted: Callable[[], Node]
) -> None:
    pool = pool_of(foo)
    connection, other = pool.get_connection(), pool.get_connection()
    pool.release(other)
    demoted()
    connection.send_command("SET", "key", "value")
    with pytest.raises(redis.ConnectionError, match="is now a slave"):
        connection.read_response()
    pool.release(connection)
    assert pool.stats.open == 0


def test_a_write_to_a_demoted_primary_ends_what_is_in_use_there(
    foo: MonitoredRedisConnection, demoted: Callable[[], Node]
) -> None:
    other = pool_of(foo).get_connection()
    demoted()
    error_of(lambda: foo.set("key", "value"))
    with pytest.raises(redis.ConnectionError):
        ask(other)
    pool_of(foo).release(other)


def test_a_script_that_a_demoted_primary_refuses_in_a_transaction_closes_its_connection(
    foo: MonitoredRedisConnection, demoted: Callable[[], Node]
) -> None:
    foo.ping()
    demoted()
    (refusal,) = foo.pipeline().eval(WRITE_SCRIPT, 0).execute(raise_on_error=False)
    assert isinstance(refusal, redis.ReadOnlyError)
    assert pool_of(foo).stats.open == 0


def test_exec_on_a_primary_that_was_demoted_meanwhile_closes_its_connection(
    foo: MonitoredRedisConnection, demoted: Callable[[], Node]
) -> None:
    connection = pool_of(foo).get_connection()
    for command in (("MULTI",), ("SET", "key", "value")):
        connection.send_command(*command)
        connection.read_response()
    demoted()
    connection.send_command("EXEC")
    with pytest.raises(redis.exceptions.ExecAbortError):
        connection.read_response()
    pool_of(foo).release(connection)
    assert pool_of(foo).stats.open == 0


def test_a_transaction_on_a_demoted_primary_may_be_retried(
    foo: MonitoredRedisConnection, demoted: Callable[[], Node]
) -> None:
    foo.ping()
    demoted()
    error = error_of(lambda: foo.pipeline().incr("key").incr("key").execute())
    assert isinstance(error, redis.ConnectionError)
    assert is_retryable(error) is True


def test_what_a_pipeline_did_before_its_server_was_demoted_is_unknown(
    foo: MonitoredRedisConnection, demoted: Callable[[], Node]
) -> None:
    pipeline = foo.pipeline(transaction=False)
    pipeline.incr("key")
    pipeline.execute_command("REPLICAOF", "127.0.0.1", "1")
    pipeline.incr("key")
    error = error_of(pipeline.execute)
    assert isinstance(error, redis.ConnectionError)
    assert is_retryable(error) is None
