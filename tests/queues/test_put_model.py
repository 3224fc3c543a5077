"""Delayed and unique messages against a model of them, on a real server."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest
import redis
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from pyramid_baseplate_redis import DurableMessageQueue, TimedOutError, pool_from_config

from ..support.servers import Server
from .conftest import HandlerError

WAITING, DELAYED = "{jobs}:waiting", "{jobs}:delayed"
KEYS = ("a", "b")
HOUR = 3600.0  # nothing is due but what a rule lets be due

which = st.integers(0, 20)
delays = st.sampled_from([None, 0, HOUR])


@dataclass
class Modelled:
    """A message as the model sees it."""

    key: str | None
    place: str  # delayed, due, ready, held, waiting
    attempts: int = 0
    received: Any = None


class PutMachine(RuleBasedStateMachine):
    port: int

    def __init__(self) -> None:
        super().__init__()
        self.pool = pool_from_config({"foo.url": f"redis://127.0.0.1:{self.port}"}, "foo.")
        self.raw = redis.Redis(port=self.port)
        self.raw.flushall()
        self.queues = [
            DurableMessageQueue(
                "jobs", self.pool, consumer=name, lease=HOUR, max_attempts=2, backoff=[HOUR]
            )
            for name in ("first", "second")
        ]  # fmt: skip
        self.live: dict[str, Modelled] = {}
        self.dead: dict[str, str | None] = {}
        #: The message that holds a key, and whether its window goes on after the message's end.
        self.holders: dict[str, tuple[str, bool]] = {}

    def teardown(self) -> None:
        self.raw.close()
        self.pool.disconnect()

    @property
    def queue(self) -> DurableMessageQueue:
        return self.queues[0]

    def in_place(self, *places: str) -> list[str]:
        return [i for i, m in self.live.items() if m.place in places]

    @rule(delay=delays)
    def put(self, delay: float | None) -> None:
        put = self.queue.put("job", delay=delay)
        assert put not in self.live
        self.live[put] = Modelled(None, "delayed" if delay else "ready")

    @rule(delay=delays, key=st.sampled_from(KEYS), has_window=st.booleans(), number=which)
    def put_unique(self, delay: float | None, key: str, has_window: bool, number: int) -> None:
        queue = self.queues[number % 2]
        window = timedelta(hours=1) if has_window else None
        put = queue.put("job", delay=delay, unique=key, unique_for=window)
        if key in self.holders:
            assert put == self.holders[key][0]
            return
        assert put not in self.live
        self.live[put] = Modelled(key, "delayed" if delay else "ready")
        self.holders[key] = (put, has_window)

    @rule(number=which)
    def time_passes_for_a_delayed_one(self, number: int) -> None:
        if delayed := self.in_place("delayed"):
            chosen = delayed[number % len(delayed)]
            assert self.raw.zadd(DELAYED, {chosen: 1}, xx=True, ch=True) == 1
            self.live[chosen].place = "due"

    @rule(number=which)
    def time_passes_for_a_waiting_one(self, number: int) -> None:
        if waiting := self.raw.zrangebyscore(WAITING, 2, "inf"):
            self.raw.zadd(WAITING, {waiting[number % len(waiting)]: 1})

    @rule(key=st.sampled_from(KEYS))
    def a_window_ends(self, key: str) -> None:
        name = f"{{jobs}}:unique:{key}"
        if key not in self.holders or not self.holders[key][1]:
            return
        message_id, _ = self.holders[key]
        if message_id in self.live:
            place = self.raw.get(name).split(b"|")[2]
            self.raw.set(name, b"%b|1|%b" % (message_id.encode(), place))
            self.holders[key] = (message_id, False)
        else:
            self.raw.delete(name)  # it had an expiry
            del self.holders[key]

    @rule(number=which)
    def receive(self, number: int) -> None:
        received = self.queues[number % 2].receive(0)
        try:
            message = received.__enter__()
        except TimedOutError:
            assert not self.in_place("due", "ready")
            return
        modelled = self.live[message.id]
        assert modelled.place in ("due", "ready", "waiting")
        modelled.attempts += 1
        assert message.attempts == modelled.attempts
        modelled.place, modelled.received = "held", received
        # It may have moved others on the way.
        still_delayed = {each.decode() for each in self.raw.zrange(DELAYED, 0, -1)}
        for each in self.in_place("due"):
            if each not in still_delayed:
                self.live[each].place = "ready"

    def held(self, number: int) -> str:
        held = self.in_place("held")
        return held[number % len(held)]

    @precondition(lambda self: self.in_place("held"))
    @rule(number=which)
    def acknowledge(self, number: int) -> None:
        chosen = self.held(number)
        self.live[chosen].received.__exit__(None, None, None)
        self.end(chosen)

    @precondition(lambda self: self.in_place("held"))
    @rule(number=which)
    def fail(self, number: int) -> None:
        chosen = self.held(number)
        modelled = self.live[chosen]
        modelled.received.__exit__(HandlerError, HandlerError(), None)
        modelled.place = "waiting"
        if modelled.attempts == 2:
            self.dead[chosen] = modelled.key
            self.end(chosen, is_dead=True)

    def end(self, message_id: str, *, is_dead: bool = False) -> None:
        """A message is not in the queue any more. Its key is free, unless it has a window."""
        key = self.live.pop(message_id).key
        if key is None or key not in self.holders:
            return
        holder, has_window = self.holders[key]
        if holder == message_id and (is_dead or not has_window):
            del self.holders[key]

    @rule(number=which)
    def a_consumer_dies_before_it_frees_the_key(self, number: int) -> None:
        if held := self.in_place("held"):
            chosen = held[number % len(held)]
            message = self.live[chosen].received._messages[0]
            self.raw.xdel("{jobs}:messages", message.entry_id)
            self.raw.xack("{jobs}:messages", "workers", message.entry_id)
            message.is_settled = True
            self.live[chosen].received.__exit__(None, None, None)
            self.end(chosen)

    @rule()
    def unlink(self) -> None:
        if not self.in_place("held"):
            self.queue.unlink()
            self.live.clear()
            self.dead.clear()
            self.holders.clear()
            assert self.raw.keys() == []

    @invariant()
    def the_stats_agree(self) -> None:
        stats = self.queue.stats()
        assert stats.delayed == len(self.in_place("delayed", "due"))
        assert stats.waiting == len(self.in_place("waiting"))
        assert stats.length == len(self.in_place("ready", "held"))
        assert stats.dead == len(self.dead)

    @invariant()
    def all_of_them_are_seen(self) -> None:
        assert {message.id for message in self.queue.peek(1000)} == self.live.keys()


@pytest.mark.slow("a long property test")
def test_queue_and_model_agree(server: Server) -> None:
    machine = type("Machine", (PutMachine,), {"port": server.port})
    run_state_machine_as_test(
        machine, settings=settings(max_examples=100, stateful_step_count=50, deadline=None)
    )
