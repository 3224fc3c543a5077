"""Whatever interrupts a command, and wherever: the next caller gets a reply of its own.

Signals come at any line of Python, also in destructors and in the code that cleans up behind
another signal. Greenlets are ended where they wait.
"""

from __future__ import annotations

import ctypes
import gc
import importlib
import random
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import redis

from ..support.servers import Server, running_server
from .everywhere import everywhere, runs_under
from .helpers import (
    QUESTIONS,
    Client,
    ask,
    ask_pipeline,
    check,
    check_all_slots_are_back,
    client_of,
    figures_are_at_rest,
    unique,
)
from .proxy import Proxy

pytestmark = pytest.mark.slow("interrupts commands at many points, in forked processes")

SECONDS = 1.0  # of one question
# redis-py tells a transaction that was interrupted behind WATCH from a key that has changed by
# nothing; a lock that was interrupted isn't held.
CONSEQUENCES = (redis.WatchError, redis.exceptions.LockError, redis.exceptions.NoScriptError)


class Interrupted(BaseException):
    """What the handler of a signal raises."""


@contextmanager
def raising_signals(number: int, interrupted: type[BaseException]) -> Iterator[Callable[[], None]]:
    """Yields what sets a timer, whose signal comes within half a millisecond."""

    def handler(*args: Any) -> None:
        raise interrupted

    chance = random.Random(7)
    before = signal.signal(number, handler)
    unraisable, sys.unraisablehook = sys.unraisablehook, lambda what: None  # in a destructor
    try:
        yield lambda: signal.setitimer(signal.ITIMER_REAL, chance.uniform(1e-6, 5e-4))  # type: ignore[func-returns-value]
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(number, before)
        sys.unraisablehook = unraisable


def interrupted_often(call: Callable[[], None], interrupted: type[BaseException]) -> int:
    """Call something again and again while signals come; how often one has ended a call."""
    count = 0
    deadline = time.monotonic() + SECONDS
    with raising_signals(signal.SIGALRM, interrupted) as hurry:
        while time.monotonic() < deadline:
            try:
                try:
                    hurry()
                    call()
                finally:
                    signal.setitimer(signal.ITIMER_REAL, 0)
            except interrupted:
                count += 1
            except CONSEQUENCES:
                pass
    return count


@runs_under("process")
@pytest.mark.parametrize("question", QUESTIONS)
def test_a_signal_at_any_point_costs_no_reply_and_no_slot(tmp_path: Path, question: str) -> None:
    with (
        running_server("valkey", tmp_path) as server,
        client_of(server, max_connections="3") as client,
    ):
        count = interrupted_often(lambda: QUESTIONS[question](client), Interrupted)
        gc.collect()
        check_all_slots_are_back(client, server)
        assert count > 50


@runs_under("process")
def test_ctrl_c_at_any_point_costs_no_reply_and_no_slot(tmp_path: Path) -> None:
    with (
        running_server("valkey", tmp_path) as server,
        client_of(server, max_connections="3") as client,
    ):
        count = interrupted_often(lambda: ask(client), KeyboardInterrupt)
        check_all_slots_are_back(client, server)
        assert count > 50


@runs_under("process")
def test_a_client_that_keeps_its_connection_never_takes_an_interrupted_commands_reply(
    tmp_path: Path,
) -> None:
    with running_server("valkey", tmp_path) as server, client_of(server) as client:
        own = client.client()
        assert interrupted_often(lambda: ask(own), Interrupted) > 50
        ask(own)
        own.close()


@runs_under("process")
def test_a_signal_whose_handler_uses_the_pool_is_no_deadlock(tmp_path: Path) -> None:
    with (
        running_server("valkey", tmp_path) as server,
        client_of(server, max_connections="3") as client,
    ):
        asked = 0

        def handler(*args: Any) -> None:
            nonlocal asked
            ask(client)
            asked += 1
            signal.setitimer(signal.ITIMER_REAL, 0.0013)  # once it is done, not before

        # getaddrinfo() imports this. Python itself fails where a handler interrupts that import and
        # looks up a name too: "unknown encoding: idna".
        importlib.import_module("encodings.idna")
        signal.signal(signal.SIGALRM, handler)
        signal.setitimer(signal.ITIMER_REAL, 0.0013)
        deadline = time.monotonic() + SECONDS
        try:
            while time.monotonic() < deadline:
                ask_pipeline(client)
        finally:
            signal.signal(signal.SIGALRM, signal.SIG_IGN)
        assert asked > 50
        check_all_slots_are_back(client, server)


@runs_under("process")
def test_a_transaction_cut_short_by_the_apps_time_limit_is_not_executed_twice(
    tmp_path: Path,
) -> None:
    attempts = 0

    def time_limit(*args: Any) -> None:
        raise TimeoutError("the app's time limit")

    with (
        running_server("valkey", tmp_path) as server,
        Proxy(server.port) as proxy,
        client_of(f"redis://127.0.0.1:{proxy.port}/0") as client,
    ):

        def count(pipeline: Any) -> None:
            nonlocal attempts
            attempts += 1
            pipeline.multi()
            pipeline.incr("count")
            if attempts == 1:
                proxy.delay(0.3)
                signal.setitimer(signal.ITIMER_REAL, 0.1)  # while EXEC's reply is waited for

        signal.signal(signal.SIGALRM, time_limit)
        with pytest.raises((TimeoutError, redis.TimeoutError)):  # redis-py says its own
            client.transaction(count, "count")
        with redis.Redis(port=server.port) as admin:
            assert (attempts, admin.get("count")) == (1, b"1")


@runs_under("process")
@pytest.mark.parametrize("number", [12345, 1.5])
def test_numbers_as_arguments_survive_signals(tmp_path: Path, number: float) -> None:
    # hiredis 3.5 crashes when it is interrupted while it packs an int.
    with running_server("valkey", tmp_path) as server, client_of(server) as client:
        args = [number] * 200

        def mget() -> None:
            check(len(client.mget(args)), 200)

        assert interrupted_often(mget, Interrupted) > 50
        check_all_slots_are_back(client, server)


# Threads and greenlets


@runs_under("process")
def test_exceptions_thrown_into_threads_cost_no_reply_and_no_slot(tmp_path: Path) -> None:
    sys.setswitchinterval(0.0005)  # more places to be interrupted at
    sys.unraisablehook = lambda what: None
    # A subscriber takes a second connection to publish: there have to be enough for all.
    throw = ctypes.pythonapi.PyThreadState_SetAsyncExc
    questions = [*QUESTIONS.values()]
    wrong: list[BaseException] = []
    over = False

    with (
        running_server("valkey", tmp_path) as server,
        client_of(server, max_connections="24") as client,
    ):

        def work(number: int) -> None:
            chance = random.Random(number)
            while not over:
                try:
                    while not over:
                        with suppress(*CONSEQUENCES):
                            chance.choice(questions)(client)
                except Interrupted:
                    pass
                except BaseException as error:
                    wrong.append(error)

        threads = [threading.Thread(target=work, args=(n,), daemon=True) for n in range(12)]
        for thread in threads:
            thread.start()
        chance = random.Random(7)
        deadline = time.monotonic() + 4 * SECONDS
        while time.monotonic() < deadline:
            time.sleep(chance.uniform(0, 0.004))
            identity = ctypes.c_ulong(chance.choice(threads).ident or 0)
            throw(identity, ctypes.py_object(Interrupted))
        over = True
        for thread in threads:
            thread.join(20)
            assert not thread.is_alive()
        if wrong:
            raise wrong[0]
        gc.collect()
        check_all_slots_are_back(client, server)


@runs_under("gevent")
@pytest.mark.parametrize("by", ["gevent.Timeout", "GreenletExit"])
def test_greenlets_that_are_ended_cost_no_reply_and_no_slot(tmp_path: Path, by: str) -> None:
    import gevent

    questions = [*QUESTIONS.values()]
    wrong: list[BaseException] = []
    ended = 0

    with (
        running_server("valkey", tmp_path) as server,
        client_of(server, max_connections="80") as client,
    ):

        def work(number: int) -> None:
            nonlocal ended
            chance = random.Random(number)
            deadline = time.monotonic() + 3 * SECONDS
            while time.monotonic() < deadline:
                try:
                    seconds = chance.choice([0.0001, 0.001, 0.02]) if "Timeout" in by else 10
                    with gevent.Timeout(seconds), suppress(*CONSEQUENCES):
                        chance.choice(questions)(client)
                except (gevent.Timeout, gevent.GreenletExit):
                    ended += 1
                except BaseException as error:
                    wrong.append(error)

        greenlets = [gevent.spawn(work, number) for number in range(40)]
        chance = random.Random(7)
        while by == "GreenletExit" and not all(greenlet.ready() for greenlet in greenlets):
            gevent.sleep(chance.uniform(0, 0.003))
            chance.choice(greenlets).kill(block=False)
        gevent.joinall(greenlets, timeout=30)
        assert all(greenlet.ready() for greenlet in greenlets)
        if wrong:
            raise wrong[0]
        assert ended > 20
        gc.collect()
        check_all_slots_are_back(client, server)


# Bugs on the way


class BugError(Exception):
    """What a callback raises."""


@pytest.mark.parametrize("error", [BugError, MemoryError, KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("transaction", [None, True, False])
def test_an_error_in_a_response_callback_leaves_no_reply_behind(
    valkey: Server, error: type[BaseException], transaction: bool | None
) -> None:
    with client_of(valkey, max_connections="1") as client:

        def callback(response: Any, **options: Any) -> Any:
            raise error

        client.set_response_callback("ECHO", callback)
        call: Callable[[], Any] = lambda: client.echo("first")  # noqa: E731
        if transaction is not None:
            call = client.pipeline(transaction=transaction).echo("1").echo("2").execute
        with pytest.raises(error):
            call()
        ask(Client("foo", None, client.connection_pool))
        check_all_slots_are_back(client, valkey)


@pytest.mark.parametrize(
    ("command", "where"),
    [
        ("ECHO", "_send"),
        ("ECHO", "_read"),
        ("echo", "pack_command"),  # in redis-py's way
        ("echo", "send_packed_command"),
        ("echo", "read_response"),
    ],
)
def test_no_memory_at_any_step_costs_no_reply_and_no_slot(
    valkey: Server, command: str, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with client_of(valkey, max_connections="1") as client:
        ask(client)
        cls = type(client.connection_pool._get_free_connections().pop())
        with monkeypatch.context() as patch:
            original = getattr(cls, where)

            def failing(self: Any, *args: Any, **kwargs: Any) -> Any:
                original(self, *args, **kwargs)
                raise MemoryError

            patch.setattr(cls, where, failing)
            with pytest.raises(MemoryError):
                client.execute_command(command, "first")
        check_all_slots_are_back(client, valkey)


@everywhere
def test_an_exception_between_asking_and_answering_closes_the_connection(tmp_path: Path) -> None:
    with (
        running_server("valkey", tmp_path) as server,
        client_of(server, max_connections="1") as client,
    ):
        pool = client.connection_pool
        for _ in range(20):
            with suppress(Interrupted):
                connection = pool.get_connection()
                try:
                    connection.send_command("ECHO", unique())
                    raise Interrupted
                finally:
                    pool.release(connection)
            ask(client)
        assert figures_are_at_rest(pool)
        check_all_slots_are_back(client, server)
