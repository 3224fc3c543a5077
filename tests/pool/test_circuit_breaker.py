"""The circuit breaker: when it opens, who may try, and what closes it."""

from __future__ import annotations

import gc
import time

import pytest
import redis

from pyramid_baseplate_redis import CircuitOpenError
from pyramid_baseplate_redis.pool.circuit_breaker import CircuitBreaker

from ..support.servers import (
    MakeClient,
    RecordedSpans,
    Server,
    attributes,
    free_port,
    running_server,
)

DOWN = redis.ConnectionError("refused")


def opened(reset: float = 0.05) -> CircuitBreaker:
    breaker = CircuitBreaker("foo", 2, reset)
    breaker.failed(DOWN)
    breaker.failed(DOWN)
    return breaker


def test_it_is_closed_at_first() -> None:
    assert CircuitBreaker("foo", 2, 1).enter() is None


def test_it_stays_closed_below_the_number_of_failures() -> None:
    breaker = CircuitBreaker("foo", 2, 1)
    breaker.failed(DOWN)
    assert breaker.enter() is None


def test_so_many_failures_in_a_row_open_it() -> None:
    with pytest.raises(CircuitOpenError):
        opened().enter()


def test_a_success_in_between_starts_the_count_again() -> None:
    breaker = CircuitBreaker("foo", 2, 1)
    breaker.failed(DOWN)
    breaker.succeeded()
    breaker.failed(DOWN)
    assert not breaker.is_open


@pytest.mark.parametrize(
    "answer",
    [
        redis.AuthenticationError("wrong password"),
        redis.BusyLoadingError("loading"),
        redis.exceptions.MaxConnectionsError("exhausted"),
    ],
)
def test_what_the_server_answers_is_no_connection_failure(answer: Exception) -> None:
    breaker = CircuitBreaker("foo", 1, 1)
    breaker.failed(answer)
    assert not breaker.is_open


def test_a_timeout_is_a_connection_failure() -> None:
    breaker = CircuitBreaker("foo", 1, 1)
    breaker.failed(redis.TimeoutError("frozen"))
    assert breaker.is_open


def test_the_failure_of_an_earlier_call_lets_no_second_caller_try() -> None:
    breaker = opened(reset=60)
    breaker._opened_at -= 90
    probe = breaker.enter()
    breaker.failed(DOWN)  # of a call that began before the breaker opened
    breaker._opened_at -= 90

    with pytest.raises(CircuitOpenError):
        breaker.enter()

    del probe
    assert breaker.enter() is not None


def test_an_error_that_is_kept_keeps_no_caller_from_trying_later() -> None:
    breaker = opened(reset=60)
    breaker._opened_at -= 90
    assert breaker.enter() is not None  # and gives up without an answer
    with pytest.raises(CircuitOpenError) as kept:
        breaker.enter()
    breaker._opened_at -= 60

    assert breaker.enter() is not None
    del kept


def test_one_may_try_after_a_while() -> None:
    breaker = opened()
    time.sleep(0.06)
    assert breaker.enter() is not None


def test_no_other_caller_may_while_one_tries() -> None:
    breaker = opened()
    time.sleep(0.06)
    probe = breaker.enter()
    time.sleep(0.06)
    with pytest.raises(CircuitOpenError):
        breaker.enter()
    del probe


def test_the_next_may_try_when_one_was_lost_on_the_way() -> None:
    breaker = opened()
    time.sleep(0.06)
    breaker.enter()
    gc.collect()
    time.sleep(0.06)
    assert breaker.enter() is not None


def test_a_successful_try_closes_it() -> None:
    breaker = opened()
    time.sleep(0.06)
    breaker.enter()
    breaker.succeeded()
    assert breaker.enter() is None


def test_a_failed_try_keeps_it_open_for_as_long_again() -> None:
    breaker = opened()
    time.sleep(0.06)
    breaker.enter()
    breaker.failed(DOWN)
    with pytest.raises(CircuitOpenError):
        breaker.enter()


# On a client


def test_it_is_off_unless_set(make_client: MakeClient) -> None:
    client = make_client(f"redis://127.0.0.1:{free_port()}")
    for _ in range(20):
        with pytest.raises(redis.ConnectionError, match="refused"):
            client.get("a")


def test_a_client_of_a_dead_server_fails_without_asking_it(make_client: MakeClient) -> None:
    client = make_client(f"redis://127.0.0.1:{free_port()}", breaker_failures="3")
    for _ in range(3):
        with pytest.raises(redis.ConnectionError, match="refused"):
            client.get("a")
    with pytest.raises(
        CircuitOpenError, match=r"foo: 127\.0\.0\.1:\d+ failed 3 times .* \(foo\.breaker_reset\)"
    ):
        client.get("a")


def test_a_frozen_server_is_waited_for_so_often_only(
    make_client: MakeClient, valkey: Server
) -> None:
    client = make_client(
        valkey, breaker_failures="2", breaker_reset="1 minute", socket_timeout="50 ms"
    )
    client.ping()
    with redis.Redis(port=valkey.port) as admin:
        admin.client_pause(400)
    for _ in range(2):
        with pytest.raises(redis.TimeoutError):
            client.get("a")
    started = time.monotonic()
    for _ in range(100):
        with pytest.raises(CircuitOpenError):
            client.get("a")
    assert time.monotonic() - started < 0.3
    with redis.Redis(port=valkey.port) as admin:
        admin.client_unpause()


def test_a_client_goes_on_when_the_server_is_back(
    make_client: MakeClient, tmp_path_factory: pytest.TempPathFactory
) -> None:
    with running_server("valkey", tmp_path_factory.mktemp("valkey")) as server:
        client = make_client(server, breaker_failures="1", breaker_reset="50 ms")
        server.kill()
        with pytest.raises(redis.ConnectionError):
            client.get("a")
        server.restart()
        time.sleep(0.06)
        assert client.get("a") is None
        assert client.get("a") is None


def test_the_span_of_what_wasnt_asked_is_an_error(
    make_client: MakeClient, spans: RecordedSpans
) -> None:
    client = make_client(f"redis://127.0.0.1:{free_port()}", breaker_failures="1")
    with pytest.raises(redis.ConnectionError):
        client.get("a")
    spans.clear()
    with pytest.raises(CircuitOpenError):
        client.get("a")
    error_type = attributes(spans.one("foo.GET"))["error.type"]
    assert error_type == "pyramid_baseplate_redis.exceptions.CircuitOpenError"


def test_an_error_in_a_reply_is_a_success(make_client: MakeClient, valkey: Server) -> None:
    client = make_client(valkey, breaker_failures="2")
    client.ping()
    client.connection_pool.breaker.failed(DOWN)
    with pytest.raises(redis.ResponseError):
        client.execute_command("NONSENSE")
    client.connection_pool.breaker.failed(DOWN)
    assert not client.connection_pool.breaker.is_open


def test_a_failure_counts_once(make_client: MakeClient) -> None:
    # It passes through several methods of the connection on its way.
    client = make_client(f"redis://127.0.0.1:{free_port()}", breaker_failures="2")
    with pytest.raises(redis.ConnectionError):
        client.get("a")
    assert not client.connection_pool.breaker.is_open
