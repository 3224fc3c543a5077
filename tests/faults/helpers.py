"""What the tests of this folder share: clients, questions, crowds of workers, and what must hold.

A question is a command whose reply identifies it, such as ECHO of a text that is used once. The
wrong answer to one is an error that no test forgives.
"""

from __future__ import annotations

import faulthandler
import itertools
import math
import os
import pickle
import select
import signal
import sys
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import redis
import trustme

from pyramid_baseplate_redis import (
    BlockingConnectionPool,
    MonitoredRedisConnection,
    pool_from_config,
)

from ..support.servers import Server, free_port, open_sockets_to, running_server, wait_until

SLACK = 0.6  # seconds by which a busy machine may be late
FAILURES = (
    redis.ConnectionError,
    redis.TimeoutError,
    redis.WatchError,
    redis.exceptions.LockNotOwnedError,  # the server has forgotten it
    redis.exceptions.NoScriptError,  # and a script that redis-py had loaded just before
)
"""The errors with which a question fails if its server dies or freezes."""
Client = MonitoredRedisConnection
_numbers = itertools.count()


def unique() -> str:
    """A text that is used once."""
    return f"{os.getpid()}-{next(_numbers)}"


def pool_of(
    url: str | Server, /, *, keywords: dict[str, Any] | None = None, **settings: str
) -> Any:
    """The pool of a client ``foo``, with a name of its own on the server."""
    url = url.url if isinstance(url, Server) else url
    settings = {"client_name": f"faults-{unique()}", **settings}
    app_config = {"foo.url": url, **{f"foo.{key}": value for key, value in settings.items()}}
    return pool_from_config(app_config, "foo.", **(keywords or {}))


@contextmanager
def client_of(
    url: str | Server, /, *, keywords: dict[str, Any] | None = None, **settings: str
) -> Iterator[Client]:
    """The client ``foo``; its connections are closed in the end."""
    pool = pool_of(url, keywords=keywords, **settings)
    try:
        yield Client("foo", None, pool)
    finally:
        pool.disconnect()


# Questions


class WrongReplyError(AssertionError):
    """The reply to another question."""


def check(reply: Any, expected: Any) -> None:
    if reply != expected:
        raise WrongReplyError(f"{reply!r} in place of {expected!r}")


def ask(client: redis.Redis) -> None:
    """One question, and its answer."""
    text = unique()
    check(client.echo(text), text.encode())


def ask_pipeline(client: Client) -> None:
    texts = [unique() for _ in range(3)]
    with client.pipeline("ask", transaction=False) as pipeline:
        for text in texts:
            pipeline.echo(text)
        check(pipeline.execute(), [text.encode() for text in texts])


def ask_transaction(client: Client) -> None:
    key, text = f"t:{unique()}", unique()
    with client.pipeline("ask") as pipeline:
        check(pipeline.set(key, text, ex=60).get(key).execute(), [True, text.encode()])


def ask_watching(client: Client) -> None:
    key, text = f"w:{unique()}", unique()
    with client.pipeline("watch") as pipeline:
        pipeline.watch(key)
        check(pipeline.echo(text), text.encode())
        check(pipeline.get(key), None)
        pipeline.multi()
        check(pipeline.set(key, text, ex=60).echo(text).execute(), [True, text.encode()])


def ask_in_transaction_function(client: Client) -> None:
    key, text = f"f:{unique()}", unique()

    def change(pipeline: Any) -> None:
        check(pipeline.exists(key), 0)
        pipeline.multi()
        pipeline.set(key, text, ex=60).get(key)

    check(client.transaction(change, key), [True, text.encode()])


def ask_blocking(client: Client) -> None:
    key, text = f"b:{unique()}", unique()
    check(client.rpush(key, text), 1)
    check(client.blpop([key], timeout=1), (key.encode(), text.encode()))


def ask_queue(client: Client) -> None:
    queue, text = client.message_queue(f"q:{unique()}"), unique()
    queue.put(text)
    check(queue.get(1), text.encode())


def ask_script(client: Client) -> None:
    text = unique()
    check(client.register_script("return ARGV[1]")(args=[text]), text.encode())


def ask_own_connection(client: Client) -> None:
    with client.client() as own:
        ask(own)
        ask(own)


def ask_subscriber(client: Client) -> None:
    channel, text = f"c:{unique()}", unique()
    patience = client.connection_pool.connection_kwargs["socket_timeout"]
    with client.pubsub() as subscriber:
        subscriber.subscribe(channel)
        sent = False
        while True:
            message = subscriber.get_message(timeout=patience)
            if message is None:
                raise redis.TimeoutError("no message came")
            check(message["channel"], channel.encode())
            if message["type"] == "message":
                check(message["data"], text.encode())
                return
            if not sent:
                client.publish(channel, text)
                sent = True


def ask_lock(client: Client) -> None:
    with client.lock(f"l:{unique()}", timeout=5):
        ask(client)


QUESTIONS: dict[str, Callable[[Client], None]] = {
    "a command": ask,
    "a pipeline": ask_pipeline,
    "a transaction": ask_transaction,
    "a watching pipeline": ask_watching,
    "a transaction function": ask_in_transaction_function,
    "a blocking command": ask_blocking,
    "a queue": ask_queue,
    "a script": ask_script,
    "a connection of its own": ask_own_connection,
    "a subscriber": ask_subscriber,
    "a lock": ask_lock,
}


# What must hold


def figures_are_at_rest(pool: BlockingConnectionPool) -> bool:
    figures = pool.stats
    return figures.in_use == 0 and figures.waiting == 0


def connections_at(server: Server, pool: redis.ConnectionPool) -> int:
    """How many connections the server has from a pool."""
    with redis.Redis(port=server.port) as admin:
        names = [connection["name"] for connection in admin.client_list()]
    return names.count(pool.connection_kwargs["client_name"])


def check_all_slots_are_back(client: redis.Redis, server: Server) -> None:
    """Each of the pool's places can be had, answers right, and is known to the server."""
    pool: Any = client.connection_pool
    wait_until(lambda: figures_are_at_rest(pool))
    wait_until(lambda: connections_at(server, pool) <= pool.stats.open)
    taken = [pool.get_connection() for _ in range(pool.max_connections)]
    for connection in taken:
        text = unique()
        connection.send_command("ECHO", text)
        check(connection.read_response(), text.encode())
    for connection in taken:
        pool.release(connection)
    assert figures_are_at_rest(pool), pool.stats
    assert pool.stats.open == pool.max_connections, pool.stats
    wait_until(lambda: connections_at(server, pool) == pool.max_connections)


@contextmanager
def takes(at_most: float, at_least: float = 0.0) -> Iterator[None]:
    """However it ends, it ends in time."""
    started = time.monotonic()
    try:
        yield
    finally:
        seconds = time.monotonic() - started
        assert at_least * 0.9 <= seconds <= at_most + SLACK, f"it took {seconds:.3f} seconds"


def failure_of(call: Callable[[], Any], at_most: float = 5.0) -> BaseException:
    """The error of Redis that a call ends with, in time."""
    with takes(at_most), pytest.raises(redis.RedisError) as caught:
        call()
    return caught.value


def told(error: BaseException) -> str:
    """All that a log would show of an error: the chain of its causes, with the traceback."""
    return "".join(traceback.format_exception(error))


# Crowds


class Crowd:
    """Workers that do the same until they are stopped: threads, or greenlets where patched."""

    def __init__(self, size: int, work: Callable[[], Any], expect: Any = redis.RedisError) -> None:
        self.right: Counter[int] = Counter()
        self.errors: list[BaseException] = []
        self.unexpected: list[BaseException] = []
        self.slowest = 0.0
        self._work = work
        self._expect = expect
        self._stopped = False
        self._threads = [
            threading.Thread(target=self._run, args=(number,), daemon=True)
            for number in range(size)
        ]

    def __enter__(self) -> Crowd:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *args: Any) -> None:
        self._stopped = True
        deadline = time.monotonic() + 30
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        stuck = [thread for thread in self._threads if thread.is_alive()]
        if stuck:
            faulthandler.dump_traceback()
        assert not stuck, f"{len(stuck)} workers never ended"
        if self.unexpected:
            raise self.unexpected[0]

    @property
    def answers(self) -> int:
        return sum(self.right.values())

    def wait_for_answers(self, more: int, seconds: float = 10.0) -> None:
        before = self.answers
        wait_until(lambda: self.answers >= before + more or self.unexpected, seconds)

    def _run(self, number: int) -> None:
        while not self._stopped and not self.unexpected:
            started = time.monotonic()
            try:
                self._work()
            except self._expect as error:
                self.errors.append(error)
                time.sleep(0.002)
            except BaseException as error:
                self.unexpected.append(error)
            else:
                self.right[number] += 1
            self.slowest = max(self.slowest, time.monotonic() - started)


def in_threads(*calls: Callable[[], Any]) -> list[Any]:
    """What each of the calls returns, when they are made at once; raises what one of them does."""
    ends: list[Any] = [None] * len(calls)
    errors: list[BaseException] = []

    def run(number: int) -> None:
        try:
            ends[number] = calls[number]()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(n,), daemon=True) for n in range(len(calls))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive(), "a call never ended"
    if errors:
        raise errors[0]
    return ends


# Servers and processes


@contextmanager
def tls_server(directory: Path) -> Iterator[tuple[Server, str, str]]:
    """Debian's server, its TLS port's URL, and the file with whom to trust."""
    authority = trustme.CA()
    issued = authority.issue_cert("127.0.0.1")
    files = {name: str(directory / name) for name in ("ca", "certificate", "key")}
    authority.cert_pem.write_to_path(files["ca"])
    issued.cert_chain_pems[0].write_to_path(files["certificate"])
    issued.private_key_pem.write_to_path(files["key"])
    port = free_port()
    with running_server(
        "redis", directory, "--tls-port", str(port), "--tls-auth-clients", "no",
        "--tls-cert-file", files["certificate"], "--tls-key-file", files["key"],
        "--tls-ca-cert-file", files["ca"],
    ) as server:  # fmt: skip
        wait_until(lambda: open_sockets_to(port))
        yield server, f"rediss://127.0.0.1:{port}", files["ca"]


@contextmanager
def frozen(server: Server) -> Iterator[None]:
    """The server's process is stopped: connections are accepted, and nothing is answered."""
    pid = server.executor.process.pid  # type: ignore[attr-defined]
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def in_child(call: Callable[[], Any], seconds: float = 20.0) -> Any:
    """What a call returns in a forked process, or the error that it raises there."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        # Not faulthandler, which waits for its own thread, and a fork copies no thread.
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(math.ceil(seconds))
        result: Any
        try:
            result = call()
        except BaseException as error:
            result = error
        try:
            os.write(writing, pickle.dumps(result))
        except BaseException:
            traceback.print_exc(file=sys.stderr)
            os._exit(1)
        os._exit(0)
    os.close(writing)
    try:
        assert select.select([reading], [], [], seconds)[0], "the child never ended"
        said = os.read(reading, 1 << 20)
    finally:
        os.close(reading)
        with suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    assert said, "the child failed"
    return pickle.loads(said)
