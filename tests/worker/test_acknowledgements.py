"""Which messages are kept for another acknowledgement, and which must not be received again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import redis

from pyramid_baseplate_redis.queues.messages import DurableMessage
from pyramid_baseplate_redis.worker.acknowledgements import Acknowledgements


class Receiver:
    """Stands for the receiver and its leases."""

    def __init__(self, acknowledge: Callable[[Sequence[DurableMessage]], None]) -> None:
        self.leases = self
        self.acknowledge = acknowledge


def acknowledgements(acknowledge: Callable[[Sequence[DurableMessage]], None]) -> Acknowledgements:
    receiver: Any = Receiver(acknowledge)
    return Acknowledgements("jobs", receiver, 10)


def message(number: int) -> DurableMessage:
    leases: Any = None
    return DurableMessage(leases, b"%d-0" % number, [b"body", b"x"], 1, 1000.0)


def test_messages_are_held_while_they_are_being_acknowledged() -> None:
    held: list[frozenset[bytes]] = []
    pending = acknowledgements(lambda messages: held.append(pending.entries()))
    pending.add(message(1))
    pending.flush()
    assert held == [{b"1-0"}]
    assert pending.entries() == frozenset()


def test_after_an_error_only_what_was_not_acknowledged_is_kept() -> None:
    def fail(messages: Sequence[DurableMessage]) -> None:
        messages[0].is_settled = True
        raise redis.ConnectionError("gone")

    pending = acknowledgements(fail)
    pending.add(message(1))
    pending.add(message(2))
    with pytest.raises(redis.ConnectionError):
        pending.flush()
    assert pending.entries() == {b"2-0"}
