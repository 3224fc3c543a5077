"""MessageQueue: nothing is lost when the server goes away or the caller is interrupted."""

from __future__ import annotations

import logging
import os
import signal
from pathlib import Path
from typing import Any

import pytest
import redis
from opentelemetry.trace import StatusCode

from pyramid_baseplate_redis import MessageQueue, MonitoredRedisConnection, pool_from_config

from ...support.servers import (
    MakeClient,
    RecordedSpans,
    Server,
    attributes,
    interrupt_when_blocked,
    running_server,
    wait_until,
)
from .conftest import blocked_clients, in_background, other_client

# The server goes away


@pytest.mark.usefixtures("short_polls")
def test_waiting_for_ever_goes_on_after_a_killed_server_came_back(
    mortal: Server, make_client: MakeClient, caplog: pytest.LogCaptureFixture
) -> None:
    queue = make_client(mortal, socket_timeout="200 milliseconds").message_queue("jobs")
    waiting = in_background(lambda: queue.get(None))
    wait_until(lambda: blocked_clients(mortal))
    mortal.kill()
    wait_until(lambda: "queue jobs" in caplog.text)
    mortal.restart()
    with other_client(mortal) as other:
        other.put(b"late")
    assert waiting.result(10) == b"late"
    # One line when it goes, one when it's back, however many attempts there were.
    ours = [record for record in caplog.records if record.name == "pyramid_baseplate_redis.queues"]
    levels = [record.levelno for record in ours]
    assert levels == [logging.WARNING] * 2


@pytest.mark.usefixtures("short_polls")
def test_waiting_for_ever_notices_a_frozen_server_and_goes_on(
    mortal: Server, make_client: MakeClient, caplog: pytest.LogCaptureFixture
) -> None:
    queue = make_client(mortal, socket_timeout="200 milliseconds").message_queue("jobs")
    waiting = in_background(lambda: queue.get(None))
    wait_until(lambda: blocked_clients(mortal))
    process = mortal.executor.process
    assert process is not None
    os.kill(process.pid, signal.SIGSTOP)
    try:
        wait_until(lambda: "queue jobs" in caplog.text)
    finally:
        os.kill(process.pid, signal.SIGCONT)
    wait_until(lambda: "is back" in caplog.text)
    with other_client(mortal) as other:
        other.put(b"late")
    assert waiting.result(10) == b"late"


def test_waiting_for_a_time_tells_of_a_killed_server(
    mortal: Server, make_client: MakeClient, spans: RecordedSpans
) -> None:
    queue = make_client(mortal).message_queue("jobs")
    waiting = in_background(lambda: queue.get(30))
    wait_until(lambda: blocked_clients(mortal))
    mortal.kill()
    with pytest.raises(redis.ConnectionError):
        waiting.result(10)
    span = spans.one("foo.BLPOP")
    assert span.status.status_code is StatusCode.ERROR
    assert attributes(span)["error.type"] == "redis.exceptions.ConnectionError"


@pytest.mark.parametrize("timeout", [0, 5, None])
def test_a_wrong_password_is_raised_at_once(
    tmp_path: Path, make_client: MakeClient, spans: RecordedSpans, timeout: float | None
) -> None:
    with running_server("valkey", tmp_path, "--requirepass", "right") as server:
        queue = make_client(server, password="wrong").message_queue("jobs")
        waiting = in_background(lambda: queue.get(timeout))
        with pytest.raises(redis.AuthenticationError):
            waiting.result(3)
    (span,) = spans.all
    assert attributes(span)["error.type"] == "WRONGPASS"


def test_without_a_password_waiting_for_ever_ends_at_once(
    tmp_path: Path, make_client: MakeClient
) -> None:
    with running_server("valkey", tmp_path, "--requirepass", "right") as server:
        queue = make_client(server).message_queue("jobs")
        with pytest.raises(redis.AuthenticationError):
            in_background(lambda: queue.get(None)).result(3)


@pytest.mark.parametrize("timeout", [0, 5, None])
def test_a_key_that_holds_no_list_is_an_error_at_once(
    queue: MessageQueue, spans: RecordedSpans, timeout: float | None
) -> None:
    queue.client.set("jobs", "no list")
    spans.clear()
    with pytest.raises(redis.ResponseError, match="WRONGTYPE"):
        in_background(lambda: queue.get(timeout)).result(3)
    (span,) = spans.all
    assert span.status.status_code is StatusCode.ERROR
    assert attributes(span)["db.response.status_code"] == "WRONGTYPE"


# Interrupted


@pytest.mark.parametrize("kept", [False, True], ids=["pooled", "kept"])
def test_an_interrupted_get_leaves_no_unread_reply(
    server: Server, make_client: MakeClient, kept: bool
) -> None:
    client = make_client(server, max_connections="1")
    if kept:
        client = client.client()
    queue = client.message_queue("jobs")
    client.set("key", "value")
    thread = interrupt_when_blocked(server)
    with pytest.raises(KeyboardInterrupt):
        queue.get(5)
    thread.join()
    with other_client(server) as other:
        other.put(b"late")
    assert client.get("key") == b"value"
    assert queue.get(1) == b"late"


def test_to_stop_an_idle_worker_is_no_failure(
    queue: MessageQueue, server: Server, spans: RecordedSpans
) -> None:
    thread = interrupt_when_blocked(server)
    with pytest.raises(KeyboardInterrupt):
        queue.get(5)
    thread.join()
    assert spans.names == []


@pytest.mark.parametrize(
    ("client", "given"), [("redis://:the-secret@localhost", "str"), (None, "NoneType")]
)
def test_what_is_neither_a_pool_nor_a_client_is_refused(client: Any, given: str) -> None:
    with pytest.raises(TypeError) as caught:
        MessageQueue("jobs", client)
    assert str(caught.value) == (
        f"client: {given} is neither a redis.ConnectionPool nor a client of redis-py"
    )


@pytest.mark.usefixtures("short_polls")
def test_a_frozen_server_is_noticed_without_a_socket_timeout_too(
    mortal: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pyramid_baseplate_redis.queues.raw_commands._GRACE_SECONDS", 0.2)
    pool = pool_from_config({"foo.url": mortal.url}, "foo.", socket_timeout=None)
    waiting = in_background(lambda: MessageQueue("jobs", pool).get(60))
    wait_until(lambda: blocked_clients(mortal))
    process = mortal.executor.process
    assert process is not None
    os.kill(process.pid, signal.SIGSTOP)
    try:
        with pytest.raises(redis.TimeoutError):
            waiting.result(10)
    finally:
        os.kill(process.pid, signal.SIGCONT)


def test_waiting_for_ever_doesnt_take_a_used_up_pool_for_a_server_that_is_away(
    valkey: Server, make_client: MakeClient
) -> None:
    client = make_client(valkey, max_connections="1", pool_timeout="10 milliseconds")
    held = client.connection_pool.get_connection()
    try:
        with pytest.raises(redis.exceptions.MaxConnectionsError, match="No connection available"):
            client.message_queue("jobs").get(None)
    finally:
        client.connection_pool.release(held)


class AlarmError(Exception):
    """What the handler of a signal raises."""


def test_a_get_that_a_signal_handler_ends_leaves_no_unread_reply(
    valkey: Server, make_client: MakeClient
) -> None:
    client = make_client(valkey, max_connections="1")
    queue = client.message_queue("jobs")

    def ring(*unused: object) -> None:
        raise AlarmError

    before = signal.signal(signal.SIGALRM, ring)
    try:
        for turn in range(5):
            signal.setitimer(signal.ITIMER_REAL, 0.05)
            with pytest.raises(AlarmError):
                queue.get(5)
            queue.put(str(turn))
            assert queue.get(1) == str(turn).encode()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


class InterruptedConnection(redis.Connection):
    """A connection on which Ctrl+C comes between a BLPOP and its reply, once."""

    interrupts = True

    def read_response(self, *args: Any, **kwargs: Any) -> Any:
        if kwargs.get("disable_decoding") and self.interrupts:
            self.interrupts = False
            raise KeyboardInterrupt
        return super().read_response(*args, **kwargs)


@pytest.mark.parametrize("kept", [False, True], ids=["pooled", "kept"])
@pytest.mark.parametrize("timeout", [0, 1])
def test_a_get_interrupted_before_it_reads_leaves_no_unread_reply(
    valkey: Server, kept: bool, timeout: float
) -> None:
    pool = pool_from_config(
        {"foo.url": valkey.url}, "foo.", connection_class=InterruptedConnection, max_connections=1
    )
    client = MonitoredRedisConnection("foo", None, pool)
    if kept:
        client = client.client()
    client.rpush("jobs", "taken", "kept")
    with pytest.raises(KeyboardInterrupt):
        client.message_queue("jobs").get(timeout)
    assert client.echo("hello") == b"hello"
    client.close()
    pool.disconnect()
