"""A durable queue against a model of it, on a real server: in whatever order things happen."""

from __future__ import annotations

from dataclasses import dataclass, field
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

from pyramid_baseplate_redis import (
    DurableMessageQueue,
    LeaseLostError,
    TimedOutError,
    pool_from_config,
)

from ..support.servers import Server
from .conftest import search_soon

CONSUMERS = ("first", "second", "third")
MAX_ATTEMPTS = 3
LEASE = 3600.0  # nothing runs out but what a rule lets run out
BACKOFF = [3600.0]  # nothing is due but what a rule lets be due
STREAM, WAITING = "{jobs}:messages", "{jobs}:waiting"

which = st.integers(0, 50)
bodies = st.binary(max_size=3)


class HandlerError(Exception):
    """Why processing fails here."""


@dataclass
class Modelled:
    """A message as the model sees it."""

    body: bytes
    attempts: int = 0
    holder: Held | None = None
    is_claimable: bool = False  # whoever looks next may have it, though it was received before
    is_waiting: bool = False  # in the sorted set; due if it is claimable
    was_received: bool = False

    @property
    def is_fresh(self) -> bool:
        return not self.was_received

    def wait(self, *, is_due: bool, attempts: int) -> None:
        """It is settled and in the sorted set."""
        self.is_waiting, self.is_claimable = True, is_due
        self.attempts = attempts
        self.holder = None

    @property
    def is_doomed(self) -> bool:
        """Whoever looks next makes it a dead letter."""
        return self.is_claimable and self.attempts >= MAX_ATTEMPTS


@dataclass
class Held:
    """A message in the hands of somebody who may have lost it."""

    received: Any = field(repr=False)
    message: Any = field(repr=False)
    id: str
    consumer: str


def position(item: tuple[str, Modelled]) -> tuple[int, ...]:
    """Return the position of an entry in the stream."""
    return tuple(map(int, item[0].split("-")))


class QueueMachine(RuleBasedStateMachine):
    port: int

    def __init__(self) -> None:
        super().__init__()
        self.pool = pool_from_config({"foo.url": f"redis://127.0.0.1:{self.port}"}, "foo.")
        self.raw = redis.Redis(port=self.port)
        self.raw.response_callbacks.pop("XCLAIM")
        self.raw.flushall()
        self.queues = {
            name: DurableMessageQueue(
                "jobs",
                self.pool,
                consumer=name,
                lease=LEASE,
                max_attempts=MAX_ATTEMPTS,
                backoff=BACKOFF,
            )
            for name in CONSUMERS
        }
        self.live: dict[str, Modelled] = {}  # in their order
        self.dead: dict[str, tuple[bytes, int]] = {}
        self.finished: set[str] = set()
        self.held: list[Held] = []

    def teardown(self) -> None:
        self.raw.close()
        self.pool.disconnect()

    @property
    def queue(self) -> DurableMessageQueue:
        return self.queues["first"]

    def pick(self, number: int) -> Held:
        return self.held[number % len(self.held)]

    def has(self, held: Held) -> bool:
        """Whether it is still the message's holder."""
        modelled = self.live.get(held.id)
        return modelled is not None and modelled.holder is held

    # Putting

    @rule(body=bodies)
    def put(self, body: bytes) -> None:
        self.live[self.queue.put(body)] = Modelled(body)

    @rule(many=st.lists(bodies, max_size=3))
    def put_many(self, many: list[bytes]) -> None:
        for entry_id, body in zip(self.queue.put_many(many), many, strict=True):
            self.live[entry_id] = Modelled(body)

    # Receiving

    @rule(consumer=st.sampled_from(CONSUMERS), count=st.integers(1, 3))
    def receive(self, consumer: str, count: int) -> None:
        claimable = {i for i, m in self.live.items() if m.is_claimable and not m.is_doomed}
        fresh = [i for i, m in self.live.items() if m.is_fresh]
        received = self.queues[consumer].receive_many(count, 0)
        try:
            messages = received.__enter__()
        except TimedOutError:
            assert not claimable
            assert not fresh
            self.bury_the_doomed()
            return
        # A busy consumer looks for due messages every now and then, so new ones may come first.
        ids = [message.id for message in messages]
        assert set(ids) <= claimable or ids == fresh[:count]
        for message in messages:
            modelled = self.live[message.id]
            modelled.attempts += 1
            assert message.is_suspect == (modelled.attempts > 1 and not modelled.is_waiting)
            modelled.was_received, modelled.is_waiting = True, False
            assert (message.body, message.attempts) == (modelled.body, modelled.attempts)
            modelled.is_claimable = False
            modelled.holder = Held(received, message, message.id, consumer)
            self.held.append(modelled.holder)
        self.learn_of_burials()

    def bury_the_doomed(self) -> None:
        """All of those that may be claimed were looked at."""
        for entry_id in [i for i, m in self.live.items() if m.is_doomed]:
            self.bury(entry_id)

    def bury(self, entry_id: str) -> None:
        modelled = self.live.pop(entry_id)
        self.dead[entry_id] = (modelled.body, modelled.attempts)

    def learn_of_burials(self) -> None:
        """Some of the doomed may have been met on the way."""
        buried = {letter.message_id for letter in self.queue.dead_letters(10_000)}
        for entry_id in [i for i, m in self.live.items() if m.is_doomed and i in buried]:
            self.bury(entry_id)

    # Settling

    @precondition(lambda self: self.held)
    @rule(number=which)
    def acknowledge(self, number: int) -> None:
        held = self.pick(number)
        if held.message.is_settled:
            return
        if self.has(held):
            held.message.acknowledge()
            del self.live[held.id]
            self.finished.add(held.id)
        else:
            with pytest.raises(LeaseLostError):
                held.message.acknowledge()

    @precondition(lambda self: self.held)
    @rule(number=which)
    def give_back(self, number: int) -> None:
        held = self.pick(number)
        if held.message.is_settled:
            return
        if self.has(held):
            held.message.give_back()
            self.live[held.id].wait(is_due=True, attempts=self.live[held.id].attempts)
        else:
            with pytest.raises(LeaseLostError):
                held.message.give_back()

    @precondition(lambda self: self.held)
    @rule(number=which)
    def put_back(self, number: int) -> None:
        """It was not begun, and this was no attempt."""
        held = self.pick(number)
        if held.message.is_settled:
            return
        leases = self.queues[held.consumer].receiver.leases
        if self.has(held):
            leases.put_back([held.message])
            self.live[held.id].wait(is_due=True, attempts=self.live[held.id].attempts - 1)
        else:
            with pytest.raises(LeaseLostError):
                leases.put_back([held.message])

    @rule(number=which)
    def time_passes(self, number: int) -> None:
        """One of the messages that wait is due."""
        waiting = [i for i, m in self.live.items() if m.is_waiting and not m.is_claimable]
        if waiting:
            chosen = waiting[number % len(waiting)]
            member = f"{chosen}|{self.live[chosen].attempts}"
            assert self.raw.zadd(WAITING, {member: 1}, xx=True, ch=True) == 1
            self.live[chosen].is_claimable = True

    @precondition(lambda self: self.held)
    @rule(number=which)
    def fail(self, number: int) -> None:
        """All that were received with it fail with it, but for those that are settled."""
        received = self.pick(number).received
        together = [held for held in self.held if held.received is received]
        failed = [held for held in together if not held.message.is_settled and self.has(held)]
        error = HandlerError()
        received.__exit__(HandlerError, error, None)
        for held in failed:
            if self.live[held.id].attempts >= MAX_ATTEMPTS:
                self.bury(held.id)
            else:
                self.live[held.id].wait(is_due=False, attempts=self.live[held.id].attempts)
        self.held = [held for held in self.held if held.received is not received]

    @precondition(lambda self: self.held)
    @rule(number=which)
    def extend(self, number: int) -> None:
        held = self.pick(number)
        if self.has(held):
            held.message.extend()
            self.live[held.id].is_claimable = False
        else:
            with pytest.raises(LeaseLostError):
                held.message.extend()

    # What happens to them

    @precondition(lambda self: self.held)
    @rule(number=which)
    def lease_runs_out(self, number: int) -> None:
        held = self.pick(number)
        if self.has(held):
            self.let_run_out(held)

    def let_run_out(self, held: Held) -> None:
        self.raw.execute_command(
            "XCLAIM", STREAM, "workers", held.consumer, 0, held.id,
            "IDLE", int(2 * LEASE * 1000), "JUSTID",
        )  # fmt: skip
        held.message.leased_at -= 2 * LEASE
        self.live[held.id].is_claimable = True
        for queue in self.queues.values():
            search_soon(queue)

    @rule(consumer=st.sampled_from(CONSUMERS))
    def consumer_dies(self, consumer: str) -> None:
        """It is never heard of again; whoever has its name is somebody new."""
        for held in self.held:
            if held.consumer == consumer and self.has(held):
                self.let_run_out(held)
                self.live[held.id].holder = None
        self.held = [held for held in self.held if held.consumer != consumer]

    @precondition(lambda self: self.dead)
    @rule(number=which)
    def replay(self, number: int) -> None:
        letters = self.queue.dead_letters(10_000)
        letter = letters[number % len(letters)]
        assert self.queue.replay(letter.id) == 1
        self.learn_of_burials_without(letter.message_id)
        body, _ = self.dead.pop(letter.message_id)
        self.finished.add(letter.message_id)
        if letter.ref:  # the entry is still there
            self.finished.discard(letter.message_id)
            self.live[letter.ref] = Modelled(body, was_received=True)
            self.live[letter.ref].wait(is_due=True, attempts=0)
            self.live = dict(sorted(self.live.items(), key=position))
            return
        ((entry_id, _),) = self.raw.xrevrange(STREAM, count=1)
        self.live[entry_id.decode()] = Modelled(body)

    def learn_of_burials_without(self, entry_id: str) -> None:
        if entry_id in self.live:
            self.bury(entry_id)

    @precondition(lambda self: self.dead)
    @rule()
    def discard(self) -> None:
        self.learn_of_burials()
        assert self.queue.discard() == len(self.dead)
        self.finished |= self.dead.keys()
        self.dead.clear()

    # What holds

    @invariant()
    def every_message_is_where_it_belongs(self) -> None:
        self.learn_of_burials()
        in_stream = {entry_id.decode(): fields[b"body"] for entry_id, fields in
                     self.raw.xrange(STREAM)}  # fmt: skip
        letters = self.queue.dead_letters(10_000)
        left = {letter.ref: letter.body for letter in letters if letter.ref}
        assert in_stream == left | {entry_id: m.body for entry_id, m in self.live.items()}
        found = {letter.message_id: (letter.body, letter.attempts) for letter in letters}
        assert found == self.dead

    @invariant()
    def the_stats_agree(self) -> None:
        stats = self.queue.stats()
        waiting = sum(modelled.is_waiting for modelled in self.live.values())
        received = sum(m.was_received and not m.is_waiting for m in self.live.values())
        assert (stats.length, stats.in_flight) == (len(self.live) - waiting, received)
        assert stats.waiting == waiting
        assert stats.dead == len(self.dead)


@pytest.mark.slow("a long property test")
def test_queue_and_model_agree(server: Server) -> None:
    machine = type("Machine", (QueueMachine,), {"port": server.port})
    run_state_machine_as_test(
        machine, settings=settings(max_examples=100, stateful_step_count=50, deadline=None)
    )
