"""Decide whether the contract of durable queues allows what producers and workers saw.

The contract:

- Each message whose put was acknowledged is processed, or is a dead letter, or still waits.
- Nothing is processed that was not put, or whose put certainly failed.
- A message is delivered again only if its lease has expired, or if the worker has failed or given
  it back. It never is after its acknowledgement has returned.
- The number of an attempt grows with each delivery.
- All puts of one unique key return one message, and one message is processed.
- No message is delivered before its delay is over.

All times are those of ``time.monotonic_ns()``, which all processes of a machine share.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Literal

# Redis counts leases and delays in whole milliseconds, and reads its clock once in an event loop.
_CLOCK = 5_000_000


@dataclass
class Put:
    """A put of the message ``number``.

    :param id: the message's identifier, which an acknowledged put returns.
    :param outcome: ``"unknown"`` if the reply was lost, so that it may have been put.
    :param unique: the unique key, if there was one.
    :param not_before: when the delay ends at the earliest.
    """

    number: int
    outcome: Literal["acknowledged", "failed", "unknown"] = "unknown"
    id: str | None = None
    unique: str | None = None
    not_before: int | None = None


@dataclass
class Delivery:
    """A message in the hands of a worker.

    :param leased_at: a time before the lease began, such as that of the request.
    :param received_at: a time after the lease began, such as that of the reply.
    :param is_processed: whether the handler has done its work.
    :param acknowledged_at: when the acknowledgement had returned; ``None`` if it did not.
    :param returned_at: when the worker began to give it back or to report a failure, so that it may
        be delivered again.
    """

    id: str
    number: int
    attempts: int
    worker: str
    leased_at: int
    received_at: int
    is_processed: bool = False
    acknowledged_at: int | None = None
    returned_at: int | None = None


@dataclass
class QueueHistory:
    """All that was seen of a queue.

    :param lease: in nanoseconds.
    :param waiting: the numbers of the messages in the queue at the end.
    :param dead: the numbers of the dead letters at the end.
    """

    lease: int
    puts: list[Put] = field(default_factory=list)
    deliveries: list[Delivery] = field(default_factory=list)
    waiting: set[int] = field(default_factory=set)
    dead: set[int] = field(default_factory=set)


def check(history: QueueHistory) -> list[str]:
    """Return a sentence for each violation of the contract."""
    clauses: tuple[Callable[[QueueHistory], Iterator[str]], ...] = (
        _nothing_is_lost,
        _nothing_is_invented,
        _leases_are_kept,
        _unique_keys_are_one_message,
        _delays_are_kept,
    )
    return [violation for clause in clauses for violation in clause(history)]


def _nothing_is_lost(history: QueueHistory) -> Iterator[str]:
    kept = {each.number for each in history.deliveries if each.is_processed}
    kept |= history.waiting | history.dead
    acknowledged = {put.number for put in history.puts if put.outcome == "acknowledged"}
    for number in sorted(acknowledged - kept):
        yield f"message {number} is lost: its put was acknowledged"


def _nothing_is_invented(history: QueueHistory) -> Iterator[str]:
    possible = {put.number for put in history.puts if put.outcome != "failed"}
    for number in sorted({each.number for each in history.deliveries} - possible):
        yield f"message {number} was delivered, and no put of it can have succeeded"


def _leases_are_kept(history: QueueHistory) -> Iterator[str]:
    by_id: dict[str, list[Delivery]] = defaultdict(list)
    for delivery in history.deliveries:
        by_id[delivery.id].append(delivery)
    for entry_id, deliveries in sorted(by_id.items()):
        deliveries.sort(key=lambda each: each.received_at)
        for earlier, later in pairwise(deliveries):
            yield from _may_follow(entry_id, earlier, later, history.lease)


def _may_follow(entry_id: str, earlier: Delivery, later: Delivery, lease: int) -> Iterator[str]:
    after = later.received_at - earlier.leased_at
    workers = f"by {earlier.worker} and {later.worker}"
    if earlier.acknowledged_at is not None:
        yield f"{entry_id} was received {workers}, though the first one's acknowledgement returned"
    elif earlier.returned_at is not None and earlier.returned_at <= later.received_at:
        pass
    elif after + _CLOCK < lease:
        yield (
            f"{entry_id} was received {workers} within {after / 1e9:.3f} seconds, and the lease "
            f"is {lease / 1e9:.3f} seconds"
        )
    if later.attempts <= earlier.attempts:
        yield (
            f"{entry_id}: attempt {later.attempts} of {later.worker} comes after attempt "
            f"{earlier.attempts} of {earlier.worker}"
        )


def _unique_keys_are_one_message(history: QueueHistory) -> Iterator[str]:
    ids: dict[str, set[str]] = defaultdict(set)
    numbers: dict[int, str] = {}
    for put in history.puts:
        if put.unique is not None:
            numbers[put.number] = put.unique
            if put.id is not None:
                ids[put.unique].add(put.id)
    processed: dict[str, set[str]] = defaultdict(set)
    for delivery in history.deliveries:
        if delivery.is_processed and delivery.number in numbers:
            processed[numbers[delivery.number]].add(delivery.id)
    for what, found in (("its puts returned", ids), ("there were processed", processed)):
        for key, some in sorted(found.items()):
            if len(some) > 1:
                yield f"the unique key {key} is several messages: {what} {sorted(some)}"


def _delays_are_kept(history: QueueHistory) -> Iterator[str]:
    # Of several puts of a number, the one that ends first may be what was delivered.
    soonest: dict[int, int] = {}
    for put in history.puts:
        if put.outcome != "failed":
            end = put.not_before or 0
            soonest[put.number] = min(end, soonest.get(put.number, end))
    for delivery in history.deliveries:
        early = soonest.get(delivery.number, 0) - delivery.received_at
        if early > _CLOCK:
            yield f"message {delivery.number} was received {early / 1e9:.3f} seconds too early"
