"""Simulated parts of the standard library: what the pool uses to wait, and to know the time."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from .network import Poll, Socket
from .scheduler import Thread, running


class Lock:
    """A lock like :class:`threading.Lock`."""

    def __init__(self) -> None:
        self._is_locked = False
        self._waiting: list[Thread] = []

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        scheduler = running()
        until = None if timeout < 0 else scheduler.now + timeout
        while self._is_locked:
            if not blocking or timeout == 0 or scheduler.current is None:
                return False
            self._waiting.append(scheduler.current)
            try:
                # As in the C library: a thread whose time is up does not look again.
                if not scheduler.wait(until, "lock"):
                    return False
            finally:
                with contextlib.suppress(ValueError):
                    self._waiting.remove(scheduler.current)
        self._is_locked = True
        return True

    def release(self) -> None:
        if not self._is_locked:
            raise RuntimeError("release unlocked lock")
        self._is_locked = False
        if self._waiting:
            running().wake(self._waiting.pop(0))

    def locked(self) -> bool:
        return self._is_locked

    def __enter__(self) -> bool:
        return self.acquire()

    def __exit__(self, *error: object) -> None:
        self.release()


class Event:
    """An event like :class:`threading.Event`."""

    def __init__(self) -> None:
        self._is_set = False
        self._waiting: list[Thread] = []

    def is_set(self) -> bool:
        return self._is_set

    def set(self) -> None:
        self._is_set = True
        while self._waiting:
            running().wake(self._waiting.pop())

    def clear(self) -> None:
        self._is_set = False

    def wait(self, timeout: float | None = None) -> bool:
        scheduler = running()
        if not self._is_set and scheduler.current is not None:
            self._waiting.append(scheduler.current)
            scheduler.wait(None if timeout is None else scheduler.now + timeout, "event")
        return self._is_set


def _thread_number() -> int:
    current = running().current
    return current.number if current is not None else 0


def _start_thread(target: Callable[..., object], arguments: tuple[Any, ...]) -> int:
    return running().spawn("background", lambda: target(*arguments), is_daemon=True).number


def _now() -> float:
    return running().now


SIMULATED: dict[str, Any] = {
    "_thread": SimpleNamespace(start_new_thread=_start_thread),
    "random": SimpleNamespace(uniform=lambda low, high: running().chance.uniform(low, high)),
    "select": SimpleNamespace(poll=Poll, POLLIN=1),
    "socket": SimpleNamespace(
        socket=Socket, SHUT_RDWR=socket.SHUT_RDWR, timeout=TimeoutError, error=OSError
    ),
    "threading": SimpleNamespace(Lock=Lock, Event=Event, get_ident=_thread_number),
    "time": SimpleNamespace(
        monotonic=_now, time=_now, perf_counter=_now, sleep=lambda seconds: running().sleep(seconds)
    ),
}
