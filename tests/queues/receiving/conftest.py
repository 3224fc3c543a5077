"""A consumer whose parts are mocks, on a clock that the test sets."""

from __future__ import annotations

import math
from typing import Any
from unittest.mock import Mock

import pytest

from pyramid_baseplate_redis import TimedOutError
from pyramid_baseplate_redis.queues.receiving.receiver import Receiver

from ..fakes import Clock, ScriptedServer, spec_of

FAR = 1e6


class Consumer:
    """A receiver whose parts are mocks. Blocking takes its time on the test's clock."""

    def __init__(self, clock: Clock, *replies: Any) -> None:
        self.clock = clock
        self.server = ScriptedServer(*replies)
        self.waiting = Mock(look_at=0.0, due_at=math.inf, pending_due_at=math.inf)
        self.delayed = Mock(due_at=math.inf)
        self.delayed.move.return_value = False
        self.group = Mock(search_at=FAR)
        self.group.may_have_expired.return_value = False
        self.group.take.return_value = []
        self.group.read.side_effect = self._read
        self.tracer = Mock()
        self.found: dict[float, Any] = {}  # by the block of the read that returns it
        commands: Any = self.server
        self.receiver = Receiver(
            spec_of(), commands, self.group, self.waiting, self.delayed, self.tracer
        )

    def _read(self, count: int, block: float) -> Any:
        self.clock.now += block
        found = self.found.pop(block, [])
        if isinstance(found, Exception):
            raise found
        return found

    def reads(self) -> list[Any]:
        """Return the reads with their blocks, and ``look``, in their order."""
        return [
            each.args[1] if each[0] == "read" else each[0]
            for each in self.group.mock_calls
            if each[0] in ("read", "look")
        ]

    def times_out(self, timeout: float, **options: Any) -> list[Any]:
        with pytest.raises(TimedOutError):
            self.receiver.wait(1, timeout, **options)
        return self.reads()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock(monkeypatch)
    clock.now = 100.0
    return clock


@pytest.fixture
def consumer(clock: Clock) -> Consumer:
    return Consumer(clock)
