"""The checker of queues accepts what the contract allows, and finds planted violations."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from .journal import Journal, deliveries
from .queue_contract import Delivery, Put, QueueHistory, check

LEASE = 1_000_000_000
SECOND = 1_000_000_000


def put(number: int, outcome: Any = "acknowledged", **values: Any) -> Put:
    entry_id = f"{number}-0" if outcome == "acknowledged" else None
    return Put(number, outcome, **{"id": entry_id, **values})


def delivery(number: int, at: float = 0.0, attempts: int = 1, **values: Any) -> Delivery:
    """Return a delivery that was asked for at a time in seconds, and received 1 ms later."""
    leased_at = int(at * SECOND)
    values = {"id": f"{number}-0", "worker": f"worker {attempts}", "is_processed": True, **values}
    return Delivery(
        number=number, attempts=attempts, leased_at=leased_at,
        received_at=leased_at + 1_000_000, **values,
    )  # fmt: skip


def history(
    puts: list[Put], received: list[Delivery], waiting: Any = (), dead: Any = ()
) -> QueueHistory:
    return QueueHistory(LEASE, puts, received, set(waiting), set(dead))


KILLED = {"is_processed": False}
ALLOWED = {
    "processed": history([put(1)], [delivery(1, acknowledged_at=2_000_000)]),
    "waiting": history([put(1)], [], waiting=[1]),
    "a dead letter": history([put(1)], [], dead=[1]),
    "never put": history([put(1, "failed")], []),
    "put, and its reply lost": history([put(1, "unknown")], [delivery(1)]),
    "not put, and its reply lost": history([put(1, "unknown")], []),
    "put again after a lost reply": history(
        [put(1, "unknown"), put(1)], [delivery(1, id="9-0"), delivery(1)]
    ),
    "received again after a lease": history([put(1)], [delivery(1, **KILLED), delivery(1, 1.1, 2)]),
    "processed again, its acknowledgement lost": history(
        [put(1)], [delivery(1), delivery(1, 1.1, 2)]
    ),
    "failed, and received again at once": history(
        [put(1)], [delivery(1, is_processed=False, returned_at=0), delivery(1, 0.1, 2)]
    ),
    "one unique key put twice": history(
        [put(1, unique="key"), put(1, unique="key")], [delivery(1)]
    ),
    "received after its delay": history([put(1, not_before=SECOND)], [delivery(1, 1.1)]),
}
VIOLATIONS = {
    "a lost message": (history([put(1)], []), "message 1 is lost"),
    "a message that was received and lost": (
        history([put(1)], [delivery(1, **KILLED)]), "message 1 is lost",
    ),
    "a message that was never put": (history([], [delivery(1)]), "no put of it can have succeeded"),
    "a message whose put failed": (
        history([put(1, "failed")], [delivery(1)]), "no put of it can have succeeded",
    ),
    "a message of two workers": (
        history([put(1)], [delivery(1), delivery(1, 0.5, 2)]), "within 0.501 seconds",
    ),
    "a message received after its acknowledgement": (
        history([put(1)], [delivery(1, acknowledged_at=2_000_000), delivery(1, 5, 2)]),
        "though the first one's acknowledgement returned",
    ),
    "a message given back after another worker has it": (
        history([put(1)], [delivery(1, returned_at=9 * SECOND), delivery(1, 0.5, 2)]),
        "within 0.501 seconds",
    ),
    "an attempt that is not counted": (
        history([put(1)], [delivery(1, **KILLED), delivery(1, 1.1, 1)]),
        "attempt 1 of worker 1 comes after attempt 1 of worker 1",
    ),
    "a unique key with two identifiers": (
        history([put(1, unique="key"), put(1, unique="key", id="2-0")], [delivery(1)]),
        "the unique key key is several messages: its puts returned ['1-0', '2-0']",
    ),
    "a unique key that is processed twice": (
        history([put(1, unique="key")], [delivery(1), delivery(1, id="2-0")]),
        "the unique key key is several messages: there were processed ['1-0', '2-0']",
    ),
    "a message before its delay is over": (
        history([put(1, not_before=SECOND)], [delivery(1, 0.5)]), "0.499 seconds too early",
    ),
}  # fmt: skip


@pytest.mark.parametrize("allowed", ALLOWED.values(), ids=ALLOWED)
def test_it_is_allowed(allowed: QueueHistory) -> None:
    assert check(allowed) == []


@pytest.mark.parametrize(("violating", "message"), VIOLATIONS.values(), ids=VIOLATIONS)
def test_it_is_found(violating: QueueHistory, message: str) -> None:
    (violation,) = check(violating)
    assert message in violation


def test_the_journals_of_workers_are_read_as_their_deliveries(tmp_path: Path) -> None:
    first, second = (Journal(tmp_path / f"worker-{number}") for number in (1, 2))
    first.received("1-0", 1, 1, 5)
    first.returned("1-0")
    second.received("1-0", 1, 2, 6)
    second.processed("1-0")
    second.acknowledged("1-0")
    failed, done = deliveries(tmp_path, "worker-*")
    assert (failed.id, failed.number, failed.attempts, failed.leased_at) == ("1-0", 1, 1, 5)
    assert (failed.worker, failed.is_processed, failed.acknowledged_at) == ("worker-1", False, None)
    assert failed.returned_at is not None
    assert failed.received_at <= failed.returned_at <= done.received_at
    assert (done.worker, done.is_processed, done.returned_at) == ("worker-2", True, None)
    assert done.acknowledged_at is not None
    assert done.received_at <= done.acknowledged_at
