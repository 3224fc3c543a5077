"""``foo.deadline`` and ``within()`` bound how long a call takes in all."""

from __future__ import annotations

import pickle
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import Any

import pytest
import redis

from pyramid_baseplate_redis import (
    DeadlineExceededError,
    MonitoredRedisConnection,
    TimedOutError,
    is_retryable,
)
from pyramid_baseplate_redis.deadlines import DeadlinePolicy
from pyramid_baseplate_redis.runtime.deadline import current_deadline

from ..support.servers import MakeClient, RecordedSpans, Server, attributes

SECONDS = 0.15
DEADLINE = "150 ms"
SLACK = 0.35  # for a busy machine
BLOCKED = ("BLPOP", "nothing", 3)


def exceeded(call: Callable[[], object], seconds: float = SECONDS) -> DeadlineExceededError:
    """Return the error of a call that takes as long as its deadline, and not longer."""
    started = time.monotonic()
    with pytest.raises(DeadlineExceededError) as caught:
        call()
    assert seconds - 0.02 < time.monotonic() - started < seconds + SLACK
    assert current_deadline() is None
    return caught.value


def is_idle(client: MonitoredRedisConnection) -> bool:
    """Return whether no connection of the client's pool is in use."""
    return client.connection_pool.stats.in_use == 0


@contextmanager
def silent_server() -> Iterator[str]:
    """A server that accepts connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"redis://127.0.0.1:{listener.getsockname()[1]}"


@contextmanager
def answering(answer: Callable[[socket.socket], None]) -> Iterator[str]:
    """A server that answers the commands of a login, and calls ``answer`` for the others."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            connection, _ = listener.accept()
            with connection, suppress(OSError):
                while data := connection.recv(4096):
                    if b"SETINFO" in data or b"SELECT" in data:
                        connection.sendall(b"+OK\r\n")
                    else:
                        answer(connection)

        threading.Thread(target=serve, daemon=True).start()
        yield f"redis://127.0.0.1:{listener.getsockname()[1]}/1?protocol=2"


def drip(connection: socket.socket) -> None:
    connection.sendall(b"$1000\r\n")
    for _ in range(100):
        time.sleep(0.02)
        connection.sendall(b"x")


def read_slowly(connection: socket.socket) -> None:
    for _ in range(100):
        time.sleep(0.02)
        connection.recv(20_000)


# What the time is spent on


def test_waiting_for_a_connection_counts(make_client: MakeClient, valkey: Server) -> None:
    client = make_client(valkey, deadline=DEADLINE, max_connections="1")
    held = client.connection_pool.get_connection()
    error = exceeded(lambda: client.get("key"))
    assert str(error).startswith(
        "foo.deadline: the 0.15 seconds passed while waiting for a connection (0.1"
    )
    assert error.phase == "waiting for a connection"
    assert "Raise foo.max_connections, or allow more than 0.15 seconds." in str(error)
    assert error.spent["waiting for a connection"] == pytest.approx(SECONDS, abs=0.05)
    assert is_retryable(error) is True
    client.connection_pool.release(held)
    assert client.get("key") is None


def test_connecting_and_logging_in_count(make_client: MakeClient) -> None:
    with silent_server() as url:
        client = make_client(url, deadline=DEADLINE)
        error = exceeded(lambda: client.get("key"))
    assert "passed while connecting" in str(error)
    assert error.spent["connecting"] == pytest.approx(SECONDS, abs=0.05)
    assert is_retryable(error) is True
    assert is_idle(client)


def test_connecting_to_a_port_that_does_not_answer_counts(make_client: MakeClient) -> None:
    # A full backlog: the kernel answers no further connection.
    listener = socket.create_server(("127.0.0.1", 0), backlog=0)
    address = listener.getsockname()
    full = [socket.socket() for _ in range(4)]
    for each in full:
        each.setblocking(False)
        each.connect_ex(address)
    client = make_client(f"redis://127.0.0.1:{address[1]}", deadline=DEADLINE)
    assert "passed while connecting" in str(exceeded(lambda: client.get("key")))
    for each in [*full, listener]:
        each.close()


def test_the_ping_of_a_health_check_is_not_the_command(make_client: MakeClient) -> None:
    pings = [b"+PONG\r\n"]  # to the one after connecting, and to no other

    def answer(connection: socket.socket) -> None:
        connection.sendall(pings.pop()) if pings else time.sleep(2 * SECONDS)

    with answering(answer) as url:
        client = make_client(url, deadline=DEADLINE, health_check_interval="10 ms")
        client.connection_pool.release(client.connection_pool.get_connection())
        time.sleep(0.05)
        error = exceeded(lambda: client.incr("count"))
    assert error.phase == "connecting"
    assert is_retryable(error) is True


def test_a_tls_handshake_counts(make_client: MakeClient) -> None:
    with silent_server() as url:
        url = url.replace("redis:", "rediss:")
        client = make_client(url, deadline=DEADLINE)
        assert exceeded(lambda: client.get("key")).phase == "connecting"
    assert is_idle(client)


def test_sending_counts(make_client: MakeClient) -> None:
    with answering(read_slowly) as url:
        client = make_client(url, deadline="800 ms", socket_timeout="5 seconds")
        client.connection_pool.release(client.connection_pool.get_connection())
        pipeline = client.pipeline(transaction=False)
        for _ in range(4000):  # 20 MB, in small pieces that each are sent in time
            pipeline.set("key", b"x" * 5000)
        error = exceeded(pipeline.execute, 0.8)  # packing takes a part of it
    assert "passed while sending" in str(error)
    assert is_retryable(error) is None
    assert is_idle(client)


def test_the_reply_counts(make_client: MakeClient, valkey: Server) -> None:
    client = make_client(valkey, deadline=DEADLINE)
    error = exceeded(lambda: client.execute_command(*BLOCKED))
    assert "passed while waiting for the reply" in str(error)
    assert isinstance(error, redis.TimeoutError)
    assert isinstance(error.__cause__, redis.TimeoutError)
    assert is_retryable(error) is None
    assert is_idle(client)
    assert client.get("key") is None


@pytest.mark.parametrize("direct", [True, False])
def test_a_reply_in_pieces_counts_as_a_whole(make_client: MakeClient, direct: bool) -> None:
    with answering(drip) as url:
        interval = "0 s" if direct else "9 s"  # a checked connection takes redis-py's way
        client = make_client(url, deadline=DEADLINE, health_check_interval=interval)
        exceeded(lambda: client.get("key"))


def test_retries_count(make_client: MakeClient) -> None:
    client = make_client("redis://127.0.0.1:1", deadline=DEADLINE, retries="100")
    error = exceeded(lambda: client.get("key"))
    assert error.spent["waiting before a retry"] > SECONDS / 2
    assert is_retryable(error) is True


def test_an_error_before_the_deadline_stays_as_it_is(make_client: MakeClient) -> None:
    client = make_client("redis://127.0.0.1:1", deadline="5 seconds")
    with pytest.raises(redis.ConnectionError) as caught:
        client.get("key")
    assert not isinstance(caught.value, DeadlineExceededError)


def test_the_servers_own_timeouts_stay_shorter(make_client: MakeClient, valkey: Server) -> None:
    client = make_client(valkey, deadline="5 seconds", socket_timeout="100 ms")
    with pytest.raises(redis.TimeoutError) as caught:
        client.execute_command(*BLOCKED)
    assert not isinstance(caught.value, DeadlineExceededError)


def test_a_reply_in_time_changes_nothing(make_client: MakeClient, valkey: Server) -> None:
    client = make_client(valkey, deadline="5 seconds", max_connections="1")
    client.set("key", "value")
    assert client.get("key") == b"value"
    with pytest.raises(redis.ResponseError, match="WRONGTYPE"):
        client.lpush("key", "x")
    # The connection that was made during a call keeps its own timeouts.
    connection = client.connection_pool.get_connection()
    assert connection._sock.gettimeout() == 5
    connection.send_command(*BLOCKED[:2], 0.4)
    assert connection.read_response() is None
    client.connection_pool.release(connection)


# Pipelines, transactions, locks, queues, subscribers


def test_a_pipeline_is_one_call(make_client: MakeClient, valkey: Server) -> None:
    pipeline = make_client(valkey, deadline=DEADLINE).pipeline(transaction=False)
    pipeline.get("key")
    pipeline.execute_command("BLPOP", "nothing", 0.1)
    pipeline.execute_command("BLPOP", "nothing", 0.1)
    pipeline.execute_command("BLPOP", "nothing", 0.1)
    exceeded(pipeline.execute)


def test_a_transaction_is_one_call_with_its_repetitions(
    make_client: MakeClient, valkey: Server
) -> None:
    client, other = make_client(valkey, deadline=DEADLINE), make_client(valkey)

    def disturbed(pipeline: Any) -> None:
        other.incr("watched")
        time.sleep(0.02)
        pipeline.multi()
        pipeline.get("watched")

    error = exceeded(lambda: client.transaction(disturbed, "watched"))
    assert str(error).startswith("foo.deadline: the 0.15 seconds passed")
    assert is_idle(client)


def test_a_pipeline_that_watches_keys_raises_the_same_error(
    make_client: MakeClient, valkey: Server
) -> None:
    # redis-py raises a WatchError in place of a timeout, which would look like a conflict.
    client = make_client(valkey, deadline=DEADLINE)
    with client.pipeline() as pipeline:
        pipeline.watch("key")
        error = exceeded(lambda: pipeline.execute_command(*BLOCKED))
        assert error.phase == "waiting for the reply"
    assert is_idle(client)


def test_a_conflict_stays_a_conflict(make_client: MakeClient, valkey: Server) -> None:
    client, other = make_client(valkey, deadline="5 seconds"), make_client(valkey)
    with client.pipeline() as pipeline:
        pipeline.watch("key")
        other.incr("key")
        pipeline.multi()
        pipeline.get("key")
        with pytest.raises(redis.WatchError):
            pipeline.execute()


@pytest.mark.parametrize("direct", [True, False])
def test_nothing_is_sent_after_the_deadline(
    make_client: MakeClient, valkey: Server, monkeypatch: pytest.MonkeyPatch, direct: bool
) -> None:
    client = make_client(valkey, health_check_interval="0 s" if direct else "9 s")
    check_out = client.connection_pool.get_connection

    def late() -> Any:
        connection = check_out()
        time.sleep(SECONDS)  # a thread that had no turn
        return connection

    monkeypatch.setattr(client.connection_pool, "get_connection", late)
    error = exceeded(lambda: client.within(SECONDS).incr("count"))
    assert is_retryable(error) is True
    assert "sending" not in error.spent
    monkeypatch.undo()
    assert client.get("count") is None
    assert is_idle(client)


def test_an_immediate_command_of_a_pipeline_is_a_call(
    make_client: MakeClient, valkey: Server
) -> None:
    client = make_client(valkey, deadline=DEADLINE, max_connections="1")
    held = client.connection_pool.get_connection()
    exceeded(lambda: client.pipeline().watch("key"))
    client.connection_pool.release(held)


def test_a_queues_commands_are_bounded_and_its_waiting_is_not(
    make_client: MakeClient, valkey: Server
) -> None:
    client = make_client(valkey, deadline=DEADLINE, max_connections="1")
    for queue in (client.durable_queue("jobs"), client.message_queue("mails")):
        started = time.monotonic()
        with pytest.raises(TimedOutError):
            queue.receive(timeout=0.4).__enter__() if hasattr(queue, "receive") else queue.get(1)
        assert time.monotonic() - started > 0.35
        held = client.connection_pool.get_connection()
        exceeded(lambda put=queue.put: put(b"message"))  # type: ignore[misc]
        client.connection_pool.release(held)


def test_waiting_for_published_messages_is_not_bounded(
    make_client: MakeClient, valkey: Server
) -> None:
    client = make_client(valkey, deadline=DEADLINE)
    with client.pubsub() as subscriber:
        subscriber.subscribe("news")
        assert subscriber.get_message(timeout=1)
        started = time.monotonic()
        assert subscriber.get_message(timeout=0.3) is None
        assert time.monotonic() - started > 0.28


def test_a_client_with_one_connection_has_the_deadline(
    make_client: MakeClient, valkey: Server
) -> None:
    with make_client(valkey, deadline=DEADLINE).client() as client:
        exceeded(lambda: client.execute_command(*BLOCKED))
        assert client.get("key") is None


# within()


def test_a_block_bounds_its_calls_together(make_client: MakeClient, valkey: Server) -> None:
    client = make_client(valkey)

    def block() -> None:
        with client.within(SECONDS) as bounded:
            for _ in range(100):  # the second one is cut off in its middle
                bounded.execute_command("BLPOP", "nothing", 0.1)

    error = exceeded(block)
    assert str(error).startswith(
        "foo.within(): the 0.15 seconds passed while waiting for the reply ("
    )
    assert client.execute_command("BLPOP", "nothing", 0.2) is None  # the client itself is unbounded


def test_a_block_that_has_ended_sends_nothing(make_client: MakeClient, valkey: Server) -> None:
    client = make_client(valkey)
    bounded = client.within(timedelta(milliseconds=20))
    time.sleep(0.03)
    for call in (lambda: bounded.incr("count"), bounded.pipeline().incr("count").execute):
        with pytest.raises(DeadlineExceededError, match="passed before the call began") as caught:
            call()
        assert is_retryable(caught.value) is True
    assert client.get("count") is None


@pytest.mark.parametrize(("outer", "inner"), [(SECONDS, 5), (5, SECONDS)])
def test_of_two_blocks_the_earlier_end_counts(
    make_client: MakeClient, valkey: Server, outer: float, inner: float
) -> None:
    client = make_client(valkey).within(outer).within(inner)
    exceeded(lambda: client.execute_command(*BLOCKED))


@pytest.mark.parametrize(("setting", "block"), [(DEADLINE, 5), ("5 seconds", SECONDS)])
def test_of_setting_and_block_the_earlier_end_counts(
    make_client: MakeClient, valkey: Server, setting: str, block: float
) -> None:
    client = make_client(valkey, deadline=setting).within(block)
    exceeded(lambda: client.execute_command(*BLOCKED))


def test_a_lock_in_a_block_is_bounded(make_client: MakeClient, valkey: Server) -> None:
    client = make_client(valkey)
    client.set("lock", "taken")
    with client.within(SECONDS) as bounded:
        exceeded(lambda: bounded.lock("lock", sleep=0.01).acquire())


def test_a_block_keeps_the_clients_own_connection(make_client: MakeClient, valkey: Server) -> None:
    with make_client(valkey).client() as client:
        number = client.client_id()
        with client.within(5) as bounded:
            assert bounded.client_id() == number
        del bounded
        assert client.client_id() == number


@pytest.mark.parametrize("seconds", [0, -1, float("inf"), float("nan"), timedelta(0)])
def test_a_block_has_a_positive_time(
    make_client: MakeClient, valkey: Server, seconds: float | timedelta
) -> None:
    with pytest.raises(ValueError, match="out of range"):
        make_client(valkey).within(seconds)


def test_what_a_request_left_open_in_a_block_is_closed(
    make_client: MakeClient, valkey: Server, caplog: pytest.LogCaptureFixture
) -> None:
    client = make_client(valkey)
    pipeline = client.within(5).pipeline()
    pipeline.watch("key")
    client.give_back()
    assert is_idle(client)
    assert "was left open" in caplog.text


# Telemetry, the breaker, the error


def test_the_span_has_the_errors_type(
    make_client: MakeClient, valkey: Server, spans: RecordedSpans
) -> None:
    exceeded(lambda: make_client(valkey, deadline=DEADLINE).execute_command(*BLOCKED))
    assert (
        attributes(spans.one("foo.BLPOP"))["error.type"]
        == "pyramid_baseplate_redis.exceptions.DeadlineExceededError"
    )


def test_the_breaker_does_not_count_it(make_client: MakeClient, valkey: Server) -> None:
    client = make_client(valkey, deadline=DEADLINE, breaker_failures="1")
    exceeded(lambda: client.execute_command(*BLOCKED))
    assert client.get("key") is None


def test_the_error_can_be_pickled() -> None:
    error = DeadlineExceededError("text", {"sending": 1.5}, unsent=True, phase="sending")
    copy = pickle.loads(pickle.dumps(error))
    assert str(copy) == str(error) == "text"
    assert (copy.spent, copy.unsent, copy.phase) == ({"sending": 1.5}, True, "sending")


def test_a_call_inside_of_a_call_has_the_earlier_end() -> None:
    outer, inner = DeadlinePolicy("foo", 5), DeadlinePolicy("bar", SECONDS)

    def ends_at(policy: DeadlinePolicy, call: Callable[[], object]) -> list[float]:
        found = []

        def inside() -> None:
            deadline = current_deadline()
            assert deadline is not None
            found.append(deadline.ends_at)
            call()
            assert current_deadline() is deadline

        policy.run(inside)
        return found

    seen: list[float] = []
    ends_at(outer, lambda: seen.extend(ends_at(inner, lambda: None)))
    assert seen[0] - time.monotonic() < SECONDS
    seen.clear()
    ends_at(inner, lambda: seen.extend(ends_at(outer, lambda: None)))
    assert seen[0] - time.monotonic() < SECONDS
