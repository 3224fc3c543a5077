"""Retries: only what the server can't have executed, or what only reads, and only for so long."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from typing import Any

import pytest
import redis
from redis.commands import READ_COMMANDS

from pyramid_baseplate_redis import CircuitOpenError, MonitoredRedisConnection
from pyramid_baseplate_redis.command_table import only_reads
from pyramid_baseplate_redis.retries import RetryPolicy, _Backoff, is_passing, was_unsent
from pyramid_baseplate_redis.runtime.deadline import RETRYING, Deadline, called

from .support.servers import MakeClient, RecordedSpans, Server, attributes, free_port

ATTEMPTS = "redis.client.operation.retry_attempts"
Client = MonitoredRedisConnection


class LosesReplies:
    """A server that logs a client in, then hangs up on so many commands, then answers ``+OK``."""

    def __init__(self, lost: int) -> None:
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"redis://127.0.0.1:{self._socket.getsockname()[1]}?protocol=2"
        self.lost = lost
        self.commands: list[bytes] = []
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            with connection:
                self._serve(connection)

    def _serve(self, connection: socket.socket) -> None:
        while data := connection.recv(65536):
            if b"SETINFO" in data:
                connection.sendall(b"+OK\r\n")
                continue
            self.commands.append(data)
            if len(self.commands) <= self.lost:
                return
            connection.sendall(b"+OK\r\n" * max(1, data.count(b"*")))

    def close(self) -> None:
        self._socket.close()


@contextmanager
def losing(lost: int) -> Iterator[LosesReplies]:
    server = LosesReplies(lost)
    try:
        yield server
    finally:
        server.close()


READS: list[Callable[[Client], Any]] = [
    lambda client: client.get("a"),
    lambda client: client.execute_command("get", "a"),
    lambda client: client.pipeline(transaction=False).get("a").hgetall("b").execute(),
]
WRITES: list[Callable[[Client], Any]] = [
    lambda client: client.set("a", 1),
    lambda client: client.incr("a"),
    lambda client: client.eval("return 1", 0),
    lambda client: client.publish("channel", "message"),
    lambda client: client.pipeline(transaction=False).get("a").incr("b").execute(),
    lambda client: client.message_queue("jobs").put("message"),
]


@pytest.mark.parametrize("read", READS)
def test_what_only_reads_is_tried_again_when_its_reply_was_lost(
    make_client: MakeClient, read: Callable[[Client], Any]
) -> None:
    with losing(2) as server:
        read(make_client(server.url, retries="2"))
        assert len(server.commands) == 3


@pytest.mark.parametrize("write", WRITES)
def test_a_write_that_may_have_been_executed_is_never_tried_again(
    make_client: MakeClient, write: Callable[[Client], Any]
) -> None:
    with losing(1) as server:
        with pytest.raises(redis.ConnectionError):
            write(make_client(server.url, retries="5"))
        assert len(server.commands) == 1


def test_a_lost_reply_is_an_error_without_retries(make_client: MakeClient) -> None:
    with losing(1) as server:
        with pytest.raises(redis.ConnectionError):
            make_client(server.url).get("a")
        assert len(server.commands) == 1


@pytest.mark.parametrize("command", [*READS[:1], *WRITES])
def test_whatever_wasnt_sent_is_tried_again(
    make_client: MakeClient, valkey: Server, command: Callable[[Client], Any]
) -> None:
    client = make_client(valkey, retries="3")
    refused = iter([True, True, False])
    connect = client.connection_pool.make_connection

    def refusing() -> Any:
        connection = connect()
        if next(refused, False):
            connection.port = 1  # where nobody listens
        return connection

    client.connection_pool.make_connection = refusing  # type: ignore[method-assign]
    command(client)


def test_a_command_that_was_tried_in_vain_raises_the_last_error(make_client: MakeClient) -> None:
    client = make_client(f"redis://127.0.0.1:{free_port()}", retries="2")
    with pytest.raises(redis.ConnectionError, match="refused"):
        client.get("a")


def test_a_refusal_because_the_server_is_loading_is_tried_again(make_client: MakeClient) -> None:
    with losing(0) as server:
        client = make_client(server.url, retries="2")
        raised = iter([redis.BusyLoadingError("LOADING Redis is loading")])

        def incr(*args: Any, **options: Any) -> Any:
            for error in raised:
                raise error
            return 1

        assert client._retry is not None
        assert client._retry.call(incr, reads=False) == 1


@pytest.mark.parametrize(
    "error",
    [
        redis.AuthenticationError("wrong password"),
        redis.exceptions.AuthorizationError("no permission"),
        redis.exceptions.MaxConnectionsError("pool exhausted"),
    ],
)
def test_some_errors_are_never_tried_again(error: Exception) -> None:
    attempts = []

    def fails() -> None:
        attempts.append(1)
        raise error

    with pytest.raises(type(error)):
        RetryPolicy(5, 5).call(fails, reads=True)
    assert len(attempts) == 1


def test_retries_end_with_the_budget() -> None:
    attempts = []

    def fails() -> None:
        attempts.append(time.monotonic())
        raise redis.ConnectionError("down")

    started = time.monotonic()
    with pytest.raises(redis.ConnectionError):
        RetryPolicy(1000, 0.2).call(fails, reads=True)
    assert time.monotonic() - started < 0.6
    assert max(attempts) - started < 0.4
    assert len(attempts) > 2


def test_the_waits_between_attempts_grow_and_differ() -> None:
    def gaps() -> list[float]:
        attempts: list[float] = []

        def fails() -> None:
            attempts.append(time.monotonic())
            raise redis.ConnectionError("down")

        with pytest.raises(redis.ConnectionError):
            RetryPolicy(5, 5).call(fails, reads=True)
        return [later - earlier for earlier, later in pairwise(attempts)]

    first, second = gaps(), gaps()
    assert max(first[3:]) > first[0]
    assert [round(gap, 4) for gap in first] != [round(gap, 4) for gap in second]


def test_no_connection_is_held_between_attempts(make_client: MakeClient, valkey: Server) -> None:
    client = make_client(valkey, retries="3", max_connections="1")
    in_use = []
    make = client.connection_pool.make_connection

    def refusing() -> Any:
        connection = make()
        if len(in_use) < 2:
            connection.port = 1
        return connection

    def compute(backoff: Any, failures: int) -> float:
        in_use.append(client.connection_pool.stats.in_use)
        return 0.0

    client.connection_pool.make_connection = refusing  # type: ignore[method-assign]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pyramid_baseplate_redis.retries._Backoff.compute", compute)
        client.get("a")
    assert in_use == [0, 0]


@pytest.mark.parametrize("kind", ["command", "pipeline"])
def test_attempts_are_on_the_span(make_client: MakeClient, spans: RecordedSpans, kind: str) -> None:
    with losing(2) as server:
        client = make_client(server.url, retries="3")
        if kind == "command":
            client.get("a")
        else:
            client.pipeline(transaction=False).get("a").execute()
    (span,) = [span for span in spans.all if span.name != "foo.process"]
    assert attributes(span)[ATTEMPTS] == 2


def test_a_span_without_retries_has_no_attempts(
    make_client: MakeClient, spans: RecordedSpans, valkey: Server
) -> None:
    make_client(valkey, retries="3").get("a")
    assert ATTEMPTS not in attributes(spans.one("foo.GET"))


def test_a_span_of_what_failed_tells_how_often_it_was_tried_again(
    make_client: MakeClient, spans: RecordedSpans
) -> None:
    client = make_client(f"redis://127.0.0.1:{free_port()}", retries="2")
    with pytest.raises(redis.ConnectionError):
        client.get("a")
    assert attributes(spans.one("foo.GET"))[ATTEMPTS] == 2


def test_a_transaction_that_watches_is_not_tried_again(
    make_client: MakeClient, valkey: Server
) -> None:
    pipeline = make_client(valkey, retries="5").pipeline()
    pipeline.watch("key")
    pipeline.multi()
    pipeline.get("key")
    sent = []

    def lost(*args: Any, **kwargs: Any) -> None:
        sent.append(args)
        raise redis.ConnectionError("lost")

    # Not undone by monkeypatch: the object is dead after the connection was closed and released.
    vars(pipeline.connection)["_send"] = lost
    with pytest.raises(redis.WatchError):
        pipeline.execute()
    assert len(sent) == 1


def test_a_retried_pipeline_sends_all_its_commands_again(
    make_client: MakeClient, valkey: Server
) -> None:
    client = make_client(valkey, retries="2")
    client.set("a", "A")
    pipeline = client.pipeline().get("a").get("b")
    with redis.Redis(port=valkey.port) as admin:
        sent = []
        execute = type(pipeline)._execute_transaction

        def once(self: Any, connection: Any, commands: Any, raise_on_error: Any) -> Any:
            sent.append([args for args, _ in commands])
            if len(sent) == 1:
                admin.client_kill_filter(_type="normal", skipme=True)
            return execute(self, connection, commands, raise_on_error)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(type(pipeline), "_execute_transaction", once)
            assert pipeline.execute() == [b"A", None]
    assert sent == [[("GET", "a"), ("GET", "b")]] * 2


def test_commands_that_only_read_are_those_that_the_server_calls_readonly(server: Server) -> None:
    # redis-py's table, which is written for replicas. Commands that this server lacks aside.
    with redis.Redis(port=server.port) as admin:
        flags = {name.upper(): item["flags"] for name, item in admin.command().items()}
    wrong = [name for name in READ_COMMANDS if name in flags and "readonly" not in flags[name]]
    assert wrong == []


@pytest.mark.parametrize("command", ["SET", "INCR", "GETDEL", "EVAL", "PUBLISH", "BLPOP", b"GET"])
def test_other_commands_are_taken_for_writes(command: Any) -> None:
    assert not only_reads(command)


def marked_unsent(error: Exception) -> Exception:
    error.unsent = True  # type: ignore[attr-defined]
    return error


@pytest.mark.parametrize(
    ("error", "unsent"),
    [
        (CircuitOpenError("open"), True),
        (marked_unsent(redis.ConnectionError("refused")), True),
        (redis.ConnectionError("lost"), False),
        (redis.BusyLoadingError("loading"), False),  # the server has received it
        (marked_unsent(redis.AuthenticationError("wrong password")), False),
        (redis.exceptions.MaxConnectionsError("all in use"), False),
    ],
)
def test_a_command_is_unsent_if_its_node_could_not_be_reached(
    error: Exception, unsent: bool
) -> None:
    assert was_unsent(error) is unsent


@pytest.mark.parametrize(
    ("error", "passing"),
    [
        (redis.ConnectionError("refused"), True),
        (redis.BusyLoadingError("loading"), True),
        (redis.exceptions.MaxConnectionsError("all in use"), False),
        (redis.AuthenticationError("wrong password"), False),
        (redis.ResponseError("WRONGTYPE"), False),
    ],
)
def test_some_errors_pass_by_themselves(error: Exception, passing: bool) -> None:
    assert is_passing(error) is passing


def attempts_until(error: Exception, **options: Any) -> int:
    """Return the number of attempts of a call that fails with ``error`` each time."""
    attempts = []

    def fails() -> None:
        attempts.append(1)
        raise error

    with pytest.raises(type(error)):
        RetryPolicy(1, 5).call(fails, **options)
    return len(attempts)


@pytest.mark.parametrize(("unsent", "attempts"), [(True, 2), (False, 1)])
def test_a_write_that_a_replica_refused_is_tried_again_if_all_of_it_was_refused(
    unsent: bool, attempts: int
) -> None:
    error = redis.ReadOnlyError("READONLY You can't write against a read only replica.")

    assert attempts_until(marked_unsent(error) if unsent else error, reads=False) == attempts


def test_a_slot_without_a_server_is_waited_for_in_a_cluster_only() -> None:
    error = redis.exceptions.ClusterDownError("CLUSTERDOWN Hash slot not served")

    assert attempts_until(error, reads=True, in_cluster=True) == 2
    assert attempts_until(error, reads=True) == 1


def test_a_client_without_settings_has_no_retries() -> None:
    assert RetryPolicy.of(None) is None


def test_the_pause_before_a_retry_is_a_phase_of_the_call() -> None:
    deadline = Deadline(time.monotonic() + 10)

    called(deadline, lambda: _Backoff(budget=100).compute(1))

    assert deadline.phase == RETRYING


def test_pauses_grow_to_a_second_at_most() -> None:
    backoff = _Backoff(budget=100)

    longest = {
        failures: max(backoff.compute(failures) for _ in range(300)) for failures in (1, 5, 30)
    }

    assert 0.015 < longest[1] <= 0.02
    assert 0.25 < longest[5] <= 0.32
    assert 0.8 < longest[30] <= 1.0


def test_a_pause_ends_with_the_budget_or_the_calls_deadline() -> None:
    assert max(_Backoff(budget=0.05).compute(30) for _ in range(300)) <= 0.05
    assert _Backoff(budget=-1).compute(30) == 0.0
    assert _Backoff(budget=0).is_spent
    assert not _Backoff(budget=100).is_spent
    assert called(Deadline(time.monotonic() - 1), lambda: _Backoff(budget=100).is_spent)
