"""Requests under way as Prometheus scrapes them, also under threads, signals and forks."""

from __future__ import annotations

import gc
import os
import signal
import threading
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from pyramid_baseplate_redis.prometheus.instruments import PROCESS, REQUESTS

from ..support.scrapes import Measured
from ..support.servers import Server, interrupt_when_blocked, wait_until

# Requests under way


def test_a_command_is_active_until_it_is_over(foo: Measured) -> None:
    thread = threading.Thread(target=foo.client.blpop, args=("jobs",))
    thread.start()
    wait_until(lambda: foo.active("blpop") == 1)

    foo.client.rpush("jobs", "work")
    thread.join()

    assert foo.active("blpop") == 0
    assert foo.requests("blpop") == {"true": 1}


def test_an_interrupted_command_is_a_failure_and_active_no_longer(
    foo: Measured, valkey: Server
) -> None:
    thread = interrupt_when_blocked(valkey)
    with pytest.raises(KeyboardInterrupt):
        foo.client.blpop("jobs")
    thread.join()

    assert foo.active("blpop") == 0
    assert foo.requests("blpop") == {"false": 1}


def test_a_command_whose_end_was_never_reported_is_no_longer_active(foo: Measured) -> None:
    monitor = foo.client.client_telemetry
    # As when a signal handler raises between the two lines of whoever starts it.
    lost = monitor.start_command(foo.client.server_span, ("GET", "a"))
    assert foo.active("get") == 1

    del lost
    gc.collect()

    assert foo.active("get") == 0


def test_threads_lose_no_request(foo: Measured, measure: Callable[..., Measured]) -> None:
    busy = measure(foo.pool.client_settings.url, max_connections="8")

    def work() -> None:
        for _ in range(200):
            busy.client.get("a")

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert busy.requests("get") == {"true": 1600}
    assert busy.active("get") == 0


class RunsWhileAdded:
    """A number during whose addition something else runs: prometheus_client has its lock then."""

    def __init__(self, run: Callable[[], object]) -> None:
        self.run = run

    def __lt__(self, other: float) -> bool:
        return False

    def __radd__(self, other: float) -> float:
        self.run()
        return other


def test_a_command_of_a_signal_handler_that_interrupts_a_measurement_is_counted(
    foo: Measured,
) -> None:
    foo.client.get("a")
    interrupted: Any = RunsWhileAdded(lambda: foo.client.get("a"))
    counter = REQUESTS.labels("get", "0", foo.name, "standalone", "true")

    # Not here: it would wait for ever if it waited for itself.
    addition = partial(counter.inc, interrupted)
    thread = threading.Thread(target=PROCESS.carry_out, args=(addition,), daemon=True)
    thread.start()
    thread.join(30)

    assert not thread.is_alive()
    assert foo.requests("get") == {"true": 2}


# Forks


def in_child(run: Callable[[], bool]) -> int:
    """Fork; the child's exit status, 0 if what it ran was true in less than a minute."""
    child = os.fork()
    if child == 0:
        signal.alarm(60)
        status = 2
        try:
            status = 0 if run() else 1
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def test_a_forked_process_has_its_own_requests_under_way(foo: Measured) -> None:
    thread = threading.Thread(target=foo.client.blpop, args=("jobs",))
    thread.start()
    wait_until(lambda: foo.active("blpop") == 1)

    assert in_child(lambda: foo.active("blpop") == 0) == 0
    assert foo.active("blpop") == 1

    foo.client.rpush("jobs", "work")
    thread.join()
    assert foo.active("blpop") == 0


def test_a_forked_process_counts_what_it_does_and_the_parent_does_not(foo: Measured) -> None:
    foo.client.get("a")

    def get() -> bool:
        foo.client.get("a")
        return foo.requests("get") == {"true": 2} and foo.pooled("active_connections") == 1

    assert in_child(get) == 0
    assert foo.requests("get") == {"true": 1}


def test_any_thread_of_a_forked_process_may_count(foo: Measured) -> None:
    def get() -> bool:
        thread = threading.Thread(target=foo.client.get, args=("a",), daemon=True)
        thread.start()
        thread.join(30)
        return foo.requests("get") == {"true": 1}

    assert in_child(get) == 0


def test_a_fork_waits_for_the_measurement_of_another_thread(foo: Measured) -> None:
    foo.client.get("a")
    is_adding, go_on = threading.Event(), threading.Event()

    def add() -> None:
        is_adding.set()
        go_on.wait(30)

    counter = REQUESTS.labels("get", "0", foo.name, "standalone", "true")
    amount: Any = RunsWhileAdded(add)
    thread = threading.Thread(target=PROCESS.carry_out, args=(partial(counter.inc, amount),))
    thread.start()
    is_adding.wait(30)
    threading.Timer(0.1, go_on.set).start()

    # Forked in between, the child would wait for prometheus_client's lock for ever.
    code = in_child(lambda: foo.client.get("a") is None)
    thread.join()

    assert code == 0
