"""Renewing the connections of a pool whose server has become a replica, without any replica."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import redis

from pyramid_baseplate_redis.pool import demotion
from pyramid_baseplate_redis.pool.demotion import PoolRenewal, RefusalDetector

from .conftest import MakePool, identity

REFUSAL = "READONLY You can't write against a read only replica."


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """The clock of the renewals; it stands still unless a test sets it."""
    made = SimpleNamespace(now=1000.0)
    monkeypatch.setattr(demotion, "time", SimpleNamespace(monotonic=lambda: made.now))
    return made


def test_idle_connections_are_closed_and_those_in_use_at_their_return(make_pool: MakePool) -> None:
    pool = make_pool()
    in_use, idle = pool.get_connection(), pool.get_connection()
    pool.release(idle)

    assert PoolRenewal(pool)()
    assert in_use.is_connected
    assert (pool.stats.open, pool.stats.idle) == (1, 0)
    pool.release(in_use)
    assert pool.stats.open == 0


def test_connections_are_renewed_once_a_second(make_pool: MakePool, clock: SimpleNamespace) -> None:
    renew = PoolRenewal(make_pool())

    assert (renew(), renew()) == (True, False)
    clock.now += 0.9
    assert not renew()
    clock.now += 0.2
    assert renew()


# A caller that keeps its connection


def test_a_connection_is_kept_while_its_server_is_the_primary(make_pool: MakePool) -> None:
    pool = make_pool()
    connection = pool.get_connection()
    number = identity(connection)
    pool.leave_replica(connection)

    assert identity(connection) == number
    pool.release(connection)


def test_a_connection_is_left_when_its_server_has_become_a_replica(make_pool: MakePool) -> None:
    pool = make_pool()
    connection = pool.get_connection()
    number = identity(connection)
    connection.slot.expire()
    pool.leave_replica(connection)

    assert not connection.is_connected
    assert (pool.stats.creations, pool.stats.discards) == (2, 1)
    assert identity(connection) != number
    assert not connection.slot.is_expired
    pool.release(connection)


def test_a_connection_that_watches_keys_is_kept(make_pool: MakePool) -> None:
    pool = make_pool()
    connection = pool.get_connection()
    connection.send_command("WATCH", "key")
    connection.read_response()
    connection.slot.expire()
    pool.leave_replica(connection)

    assert connection.is_connected
    assert connection.slot.is_expired
    pool.release(connection)


def test_a_connection_that_is_closed_leaves_with_its_next_command(make_pool: MakePool) -> None:
    pool = make_pool()
    connection = pool.get_connection()
    connection.disconnect()
    connection.slot.expire()
    pool.leave_replica(connection)

    assert not connection.slot.is_expired
    assert (pool.stats.creations, pool.stats.discards) == (1, 0)
    pool.release(connection)


def test_a_connection_outside_of_the_pool_is_left_alone(make_pool: MakePool) -> None:
    pool = make_pool()
    pool.leave_replica(pool.make_connection())

    assert pool.stats.discards == 0


# Refusals


def detector(report: Any) -> RefusalDetector:
    made = RefusalDetector(SimpleNamespace(parse_error=redis.ResponseError))
    made.report = report
    return made


@pytest.mark.parametrize("must_close", [True, False])
def test_a_refusal_is_reported_and_may_close_the_connection(must_close: bool) -> None:
    detects = detector(lambda: must_close)

    assert isinstance(detects(REFUSAL), redis.ResponseError)
    assert detects.must_close == must_close


def test_another_error_is_not_reported() -> None:
    reports: list[int] = []
    detector(lambda: reports.append(1))("WRONGTYPE")

    assert reports == []


def test_a_refusal_without_anything_to_report_to_is_an_error_only() -> None:
    detects = detector(None)

    assert isinstance(detects(REFUSAL), redis.ResponseError)
    assert not detects.must_close


def test_a_parser_that_does_not_parse_errors_is_left_alone() -> None:
    parser = SimpleNamespace()
    RefusalDetector(parser)

    assert vars(parser) == {}


def refused(connection: Any, *, must_close: bool, commands: int = 1) -> redis.ReadOnlyError:
    """Return the error of commands that a replica has refused."""
    connection._refusals.must_close = must_close
    connection.pack_commands([("SET", "key", "value")] * commands)
    error = redis.ReadOnlyError(REFUSAL)
    connection._note_error(error)
    return error


@pytest.mark.parametrize("must_close", [True, False])
def test_a_refusal_closes_the_connection_if_it_has_to(
    make_pool: MakePool, must_close: bool
) -> None:
    pool = make_pool()
    connection = pool.get_connection()
    refused(connection, must_close=must_close)

    assert connection.is_connected is not must_close
    pool.release(connection)


def test_a_refusal_closes_no_connection_that_watches_keys(make_pool: MakePool) -> None:
    pool = make_pool()
    connection = pool.get_connection()
    connection.send_command("WATCH", "key")
    connection.read_response()
    refused(connection, must_close=True)

    assert connection.is_connected
    pool.release(connection)


@pytest.mark.parametrize(("commands", "unsent"), [(1, True), (2, False)])
def test_a_refused_command_was_not_executed_but_others_of_a_pipeline_may_have_been(
    make_pool: MakePool, commands: int, unsent: bool
) -> None:
    pool = make_pool()
    connection = pool.get_connection()
    error = refused(connection, must_close=False, commands=commands)

    assert getattr(error, "unsent", False) is unsent
    pool.release(connection)


def test_a_refusal_by_a_node_of_a_cluster_is_left_to_redis_py(make_pool: MakePool) -> None:
    connection = make_pool().get_connection()
    connection.is_node = True
    error = refused(connection, must_close=True)

    assert connection.is_connected
    assert not hasattr(error, "unsent")
