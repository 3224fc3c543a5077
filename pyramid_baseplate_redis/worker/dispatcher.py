"""Decides which message a worker's thread handles next, and which thread receives."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from ..queues.messages import DurableMessage
from .failures import FailureStreak
from .read_ahead import ReadAhead


@dataclass(eq=False)
class Handle:
    """The calling thread handles this message."""

    message: DurableMessage
    is_alone: bool  #: whether no other message may be handled at the same time
    started: float  #: :func:`time.monotonic` when it was begun
    thread: int = field(default_factory=threading.get_ident)
    is_reported: bool = False  #: whether it was logged that the message's lease has expired


@dataclass(frozen=True)
class Receive:
    """The calling thread receives up to ``count`` messages."""

    count: int
    #: Of these, how many suspects. If it is 0, do not wait for a message, since a suspect would
    #: wait, too.
    suspects: int
    held: frozenset[bytes]  #: the entries that this process has


@dataclass(frozen=True)
class PutBack:
    """The calling thread puts back these messages, which were not begun."""

    messages: Sequence[DurableMessage]


class Dispatcher:
    """The messages that a worker has received and not finished.

    One idle thread at a time receives. A message that was delivered before and never settled is a
    suspect, since it may have killed its process. It is handled alone, after messages that were
    not begun are put back, so that another death raises the attempts of no other message. A handler
    that has outlived its lease does not count, or suspects would wait for it forever.

    Suspects and other messages take turns of one lease, if there are both.

    :param lease: seconds.
    """

    def __init__(self, lease: float, failures: FailureStreak, ahead: ReadAhead) -> None:
        self._lease = lease
        self._failures = failures
        self._ahead = ahead
        self._changed = threading.Condition()
        self._ready: deque[DurableMessage] = deque()
        self._suspects: deque[DurableMessage] = deque()
        self._running: dict[int, Handle] = {}
        self._is_receiving = False
        self._is_putting_back = False
        self._is_stopped = False
        self._is_turn_of_suspects = True
        self._turn_ends: float | None = None  # there is none without suspects

    def next(self) -> Handle | Receive | PutBack | None:
        """Wait for something to do and return it; ``None`` if the worker stops."""
        with self._changed:
            while not self._is_stopped:
                task = self._task()
                if not isinstance(task, float):
                    return task
                self._changed.wait(task)
            return None

    def _task(self) -> Handle | Receive | PutBack | float:
        """Return what to do, or after how many seconds to look again."""
        now = time.monotonic()
        fresh = [each for each in self._running.values() if now - each.started < self._lease]
        until_stale = min((each.started + self._lease - now for each in fresh), default=self._lease)
        pause = self._failures.pause()
        if pause:  # what it holds back keeps its attempts
            return self._unbegun() if self._ready else pause
        if any(each.is_alone for each in fresh) or (fresh and self._failures.is_long):
            return until_stale
        if self._is_suspects_turn(now):
            if fresh or self._is_receiving or self._is_putting_back:
                return until_stale
            if self._ready:
                return self._unbegun()
            return self._begun(self._suspects.popleft(), is_alone=True)
        if self._ready:
            return self._begun(self._ready.popleft(), is_alone=False)
        if self._is_receiving:
            return self._lease
        self._is_receiving = True
        count = 1 if self._failures.is_long else self._ahead.count()
        # Receiving raises a suspect's attempts. Therefore only one is received, which is handled at
        # once; none if other messages have their turn.
        return Receive(count, 0 if self._suspects else 1, frozenset(self._held()))

    def _is_suspects_turn(self, now: float) -> bool:
        if not self._suspects:
            self._turn_ends = None
            return False
        if self._turn_ends is None:
            self._is_turn_of_suspects, self._turn_ends = True, now + self._lease
        elif now >= self._turn_ends:
            self._switch(now)
        return self._is_turn_of_suspects

    def _switch(self, now: float) -> None:
        self._is_turn_of_suspects = not self._is_turn_of_suspects
        self._turn_ends = now + self._lease

    def _begun(self, message: DurableMessage, *, is_alone: bool) -> Handle:
        handle = Handle(message, is_alone, time.monotonic())
        self._running[handle.thread] = handle
        return handle

    def _unbegun(self) -> PutBack:
        messages = [*self._ready]
        self._ready.clear()
        self._is_putting_back = True
        return PutBack(messages)

    def _held(self) -> Iterable[bytes]:
        running = (each.message for each in self._running.values())
        return (each.entry_id for each in (*self._ready, *self._suspects, *running))

    def received(self, messages: Sequence[DurableMessage]) -> Sequence[DurableMessage]:
        """Add what the thread has received that was asked to; nothing if that failed.

        :returns: the messages that were not added, because the worker has stopped meanwhile.
        """
        with self._changed:
            self._is_receiving = False
            if self._is_stopped:
                return [message for message in messages if not message.is_suspect]
            for message in messages:
                (self._suspects if message.is_suspect else self._ready).append(message)
            if self._suspects and not self._ready and not self._is_turn_of_suspects:
                self._switch(time.monotonic())  # there are no others
            self._changed.notify_all()
            return ()

    def were_put_back(self) -> None:
        """Record that the messages of :class:`PutBack` were put back, or that it failed."""
        with self._changed:
            self._is_putting_back = False
            self._changed.notify_all()

    def finished(self, handle: Handle, *, has_failed: bool | None) -> None:
        """Record that a message was handled.

        :param has_failed: ``None`` if the handler was not called, which says nothing about it.
        """
        with self._changed:
            del self._running[handle.thread]
            if has_failed is not None:
                seconds = time.monotonic() - handle.started
                self._ahead.handled(seconds, len(handle.message.body))
            was_long = self._failures.is_long
            if has_failed:
                self._failures.failed()
            elif has_failed is not None:
                self._failures.succeeded()
            if was_long or self._failures.is_long or self._suspects or handle.is_alone:
                self._changed.notify_all()

    def stop(self) -> list[DurableMessage]:
        """Stop all threads; return the messages that were not begun.

        Suspects are not among them. They become due when their lease expires, and are suspects
        then, too; put back, they would be taken for good ones.
        """
        with self._changed:
            self._is_stopped = True
            unbegun = [*self._ready]
            self._ready.clear()
            self._changed.notify_all()
            return unbegun

    def under_way(self) -> list[Handle]:
        """Return the messages that threads are handling."""
        with self._changed:
            return list(self._running.values())

    def expiring(self) -> list[DurableMessage]:
        """Return the messages that were not begun and are past a third of their lease."""
        late = time.monotonic() - self._lease / 3
        with self._changed:
            return [each for each in (*self._ready, *self._suspects) if each.leased_at < late]

    def forget(self, messages: Sequence[DurableMessage]) -> None:
        """Drop messages that other consumers have received."""
        with self._changed:
            for message in messages:
                for waiting in (self._ready, self._suspects):
                    if message in waiting:
                        waiting.remove(message)
