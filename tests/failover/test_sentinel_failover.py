"""Sentinel fails over under load: 8 workers that write and ask, and what became of it.

With ``-s`` or ``-rP`` each test tells how long nothing was written and what was lost.
"""

from __future__ import annotations

import itertools
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import redis

from ..faults.everywhere import runs_under
from ..faults.helpers import (
    Client,
    Crowd,
    ask,
    ask_pipeline,
    ask_transaction,
    ask_watching,
    check,
    check_all_slots_are_back,
    client_of,
    in_child,
)
from ..faults.test_interruptions import Interrupted, interrupted_often
from ..support.servers import wait_until
from ..support.topologies import Node, SentinelSet, running_sentinels

pytestmark = pytest.mark.slow("failovers take seconds")

WORKERS = 8
LATE = 1.0  # seconds, which is for the machine: as many milliseconds do
# redis-py turns any of the others into a WatchError where keys are watched.
CONNECTION_ERRORS = (redis.ConnectionError, redis.TimeoutError)
TRANSIENT = (*CONNECTION_ERRORS, redis.WatchError)


class Load:
    """Writes numbers, and remembers which were acknowledged and when."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.acknowledged: list[tuple[float, int]] = []
        self.replicated: list[int] = []
        self._numbers = itertools.count()
        self._questions = itertools.cycle([ask, ask_pipeline, ask_transaction, ask_watching])

    def work(self) -> None:
        number = next(self._numbers)
        if number % 20 == 0:
            self._write_and_wait(number)
        elif number % 4 == 0:
            next(self._questions)(self.client)
        else:
            check(self.client.sadd("numbers", number), 1)
            self.acknowledged.append((time.monotonic(), number))

    def _write_and_wait(self, number: int) -> None:
        with self.client.pipeline("replicated", transaction=False) as pipeline:
            added, replicas = pipeline.sadd("numbers", number).wait(1, 200).execute()
        check(added, 1)
        self.acknowledged.append((time.monotonic(), number))
        if replicas:
            self.replicated.append(number)

    @property
    def gap(self) -> float:
        """The longest time in which nothing was written."""
        times = sorted(when for when, _ in self.acknowledged)
        return max(later - sooner for sooner, later in itertools.pairwise(times))

    def lost(self, server: Node) -> list[tuple[float, int]]:
        """What was acknowledged and isn't there, of all that was."""
        there = {int(number) for number in server.client.smembers("numbers")}
        return [(when, number) for when, number in self.acknowledged if number not in there]


class Failover:
    """What became of it; told when it is over."""

    def __init__(
        self, load: Load, crowd: Crowd, new: Node, promoted_at: float, known_at: float
    ) -> None:
        self.load, self.crowd, self.new = load, crowd, new
        self.promoted_at, self.known_at = promoted_at, known_at
        self.lost = load.lost(new)
        self.errors = Counter(type(error).__name__ for error in crowd.errors)
        sys.stdout.write(
            f"\n{len(self.lost)} of {len(load.acknowledged)} acknowledged writes were lost; "
            f"nothing was written for {load.gap:.2f} s; errors: {dict(self.errors)}\n"
        )

    @property
    def resumed_at(self) -> float:
        """When the first write behind the promotion was acknowledged."""
        return min(when for when, _ in self.load.acknowledged if when >= self.promoted_at)


def failed_over(
    client: Client, sentinels: SentinelSet, begin: Callable[[SentinelSet], object]
) -> Failover:
    """Fail over while 8 workers go on, which they do for a while behind it."""
    pool: Any = client.connection_pool
    new = sentinels.replica()
    load = Load(client)

    def is_known() -> bool:
        return bool(pool.master_address == (new.host, new.port))

    def is_promoted() -> bool:
        return is_known() or new.port in sentinels._named()

    with Crowd(WORKERS, load.work, TRANSIENT) as crowd:
        crowd.wait_for_answers(300)
        begin(sentinels)
        wait_until(is_promoted, 20)  # a second election may be necessary
        promoted_at = time.monotonic()
        wait_until(is_known)
        known_at = time.monotonic()
        crowd.wait_for_answers(50)
        # Those that waited for a reply of the old primary have heard by now.
        time.sleep(0.2)
        before = len(crowd.errors)
        crowd.wait_for_answers(500)
        late = crowd.errors[before:]
    assert not late, late
    return Failover(load, crowd, new, promoted_at, known_at)


def kill(sentinels: SentinelSet) -> None:
    sentinels.kill_primary()


def freeze(sentinels: SentinelSet) -> None:
    sentinels.primary().freeze()


def plan(sentinels: SentinelSet) -> None:
    sentinels.failover()


def check_what_holds(outcome: Failover, client: Client) -> None:
    lost = {number for _, number in outcome.lost}
    assert not lost.intersection(outcome.load.replicated)
    assert outcome.load.replicated
    watching = [error for error in outcome.crowd.errors if isinstance(error, redis.WatchError)]
    assert all(isinstance(error.__context__, CONNECTION_ERRORS) for error in watching)
    behind = [when for when, _ in outcome.lost if when > outcome.known_at]
    assert not behind, "lost, although the new primary was known"
    assert outcome.known_at - outcome.promoted_at < LATE
    assert outcome.resumed_at - outcome.promoted_at < LATE
    check_all_slots_are_back(client, outcome.new)


@contextmanager
def foo(sentinels: SentinelSet, **settings: str) -> Iterator[Client]:
    settings = {"socket_timeout": "1 second", "max_connections": str(WORKERS), **settings}
    with client_of(sentinels.url, **settings) as client:
        yield client


@pytest.mark.parametrize("begin", [kill, freeze, plan])
def test_eight_threads_go_on_at_the_new_primary(
    sentinels: SentinelSet, begin: Callable[[SentinelSet], None]
) -> None:
    with foo(sentinels) as client:
        check_what_holds(failed_over(client, sentinels, begin), client)


def test_a_caller_that_waits_for_a_frozen_primary_hears_of_the_new_one(
    sentinels: SentinelSet,
) -> None:
    with foo(sentinels, socket_timeout="20 seconds") as client:
        outcome = failed_over(client, sentinels, freeze)
    assert outcome.crowd.slowest < 15


def test_hardly_a_write_is_lost_by_a_planned_failover(sentinels: SentinelSet) -> None:
    # Those that the replica hasn't got when it is promoted: none, mostly, but on a busy machine a
    # listener may hear a moment late. Plain redis-py's go on for 10 s, two thirds of all writes.
    with foo(sentinels) as client:
        outcome = failed_over(client, sentinels, plan)
    assert len(outcome.lost) <= len(outcome.load.acknowledged) / 20, len(outcome.load.acknowledged)


def test_what_the_old_primary_has_when_it_is_back_is_not_used(sentinels: SentinelSet) -> None:
    # Thawed, it takes itself for the primary until the Sentinels tell it otherwise.
    with foo(sentinels) as client:
        old = sentinels.primary()
        outcome = failed_over(client, sentinels, freeze)
        old.thaw()
        with Crowd(WORKERS, outcome.load.work, ()) as crowd:
            crowd.wait_for_answers(1000)
        assert client.info("server")["tcp_port"] == outcome.new.port
        assert not [when for when, _ in outcome.load.lost(outcome.new) if when > outcome.known_at]


def test_with_more_threads_than_connections_all_slots_are_back(sentinels: SentinelSet) -> None:
    with foo(sentinels, max_connections="3") as client:
        check_what_holds(failed_over(client, sentinels, plan), client)


@runs_under("gevent")
@pytest.mark.parametrize("begin", ["kill", "plan"])
def test_greenlets_go_on_at_the_new_primary(tmp_path: Path, begin: str) -> None:
    with running_sentinels("valkey", tmp_path) as sentinels, foo(sentinels) as client:
        check_what_holds(failed_over(client, sentinels, globals()[begin]), client)


@runs_under("threads", "gevent")
def test_a_child_that_was_forked_before_a_failover_hears_of_it(tmp_path: Path) -> None:
    with running_sentinels("valkey", tmp_path) as sentinels, foo(sentinels) as client:
        ask(client)
        old, new = sentinels.primary(), sentinels.replica()
        port_of_a_sentinel = sentinels.sentinels[0].port

        def in_the_child() -> int:
            pool: Any = client.connection_pool
            ask(client)
            redis.Redis(port=port_of_a_sentinel).sentinel_failover(sentinels.service)
            wait_until(lambda: pool.master_address == (new.host, new.port))
            client.set("key", "of the child")
            port: int = client.info("server")["tcp_port"]
            return port

        assert in_child(in_the_child) == new.port != old.port
        wait_until(lambda: client.connection_pool.master_address == (new.host, new.port))
        assert client.get("key") == b"of the child"


@runs_under("process")
def test_a_signal_while_asking_sentinels_costs_no_reply_and_no_slot(tmp_path: Path) -> None:
    with (
        running_sentinels("valkey", tmp_path) as sentinels,
        foo(sentinels, max_connections="3") as client,
    ):
        primary = sentinels.primary()
        pool: Any = client.connection_pool
        manager = pool.sentinel_manager
        asked = [*manager.sentinels]

        def connect_and_ask() -> None:
            pool.demoted((primary.host, primary.port))  # so that the Sentinels are asked again
            ask(client)

        assert interrupted_often(connect_and_ask, Interrupted) > 50
        check_all_slots_are_back(client, primary)
        # One connection to each is the listener's.
        wait_until(lambda: all(s.connection_pool.stats.in_use == 1 for s in asked))
        assert set(map(id, manager.sentinels)) == set(map(id, asked))
