"""A simulated server and sockets: each call is a switch point, takes virtual time, and may fail."""

from __future__ import annotations

import errno
import itertools
import random
import weakref
from collections import deque
from collections.abc import Callable
from typing import Any

import hiredis

from .scheduler import Scheduler, Thread, running

Fail = Callable[[str], None]


class Server:
    """A server that answers ECHO, and whose faults are set by its attributes.

    :param scheduler: its clock.
    :param most_connections: more open connections than these are a failure.
    """

    def __init__(self, scheduler: Scheduler, most_connections: int) -> None:
        self.scheduler = scheduler
        self.most_connections = most_connections  # of all callers; see Workers.disturbed()
        self.latency = 0.0005
        self.refuses_until = 0.0
        self.is_silent_until = 0.0  # connects and replies take until then
        self.is_replica = False
        self._open: dict[int, weakref.ref[Socket]] = {}
        self._numbers = itertools.count()
        #: Threads that use a socket now: between check-out and release.
        self.holders: dict[Socket, Thread] = {}

    @property
    def chance(self) -> random.Random:
        return self.scheduler.chance

    def delay(self) -> float:
        """Return the time at which what is asked now is answered."""
        now = self.scheduler.now
        return max(now + self.latency * self.chance.random() * 2, self.is_silent_until)

    @property
    def open(self) -> list[Socket]:
        """Return the open connections; a socket that is garbage is closed."""
        return [opened for ref in tuple(self._open.values()) if (opened := ref()) is not None]

    def accept(self, opened: Socket) -> None:
        number = next(self._numbers)
        self._open[number] = weakref.ref(opened)
        if len(self.open) > self.most_connections:
            self.scheduler.fail(f"{len(self.open)} connections are open at once")

    def closes(self, opened: Socket) -> None:
        self._open = {number: ref for number, ref in self._open.items() if ref() is not opened}

    def close_all(self) -> None:
        """Close the connections, as a server does that restarts."""
        for opened in self.open:
            opened.die()

    def recover(self) -> None:
        """Be well from now on."""
        self.refuses_until = self.is_silent_until = 0.0
        self.is_replica = False

    def reply(self, command: list[bytes]) -> bytes:
        if command[0] != b"ECHO":
            return b"+OK\r\n"
        if self.is_replica:
            return b"-READONLY You can't write against a read only replica.\r\n"
        return b"$%d\r\n%s\r\n" % (len(command[1]), command[1])


class Socket:
    """The client's end of a connection."""

    server: Server  # set for each schedule

    def __init__(self, server: Server) -> None:
        self.server = server
        self._scheduler = server.scheduler
        self._requests = hiredis.Reader()
        self._arriving: deque[tuple[float, bytes]] = deque()
        self._reader: Thread | None = None
        self._timeout: float | None = None
        self.is_dead = False  # the other end is closed
        self.is_shut = False
        self.is_closed = False

    def settimeout(self, seconds: float | None) -> None:
        self._timeout = seconds

    def setblocking(self, blocks: bool) -> None:
        self._timeout = None if blocks else 0.0

    def getpeername(self) -> tuple[str, int]:
        return ("192.0.2.1", 6379)

    def connect(self, address: object) -> None:
        server, scheduler = self.server, self._scheduler
        scheduler.step("connect()")
        ends_at = server.delay()
        self._pause(ends_at, "connect")
        if server.refuses_until > scheduler.now:
            raise ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused")
        server.accept(self)

    def sendall(self, data: Any) -> None:
        scheduler = self._scheduler
        scheduler.step("sendall()")
        self._check()
        if self.is_dead or self.is_shut:
            raise BrokenPipeError(errno.EPIPE, "Broken pipe")
        self._requests.feed(bytes(data))
        while (command := self._requests.gets()) is not False:
            self._arriving.append((self.server.delay(), self.server.reply(command)))

    def recv_into(self, buffer: bytearray) -> int:
        scheduler = self._scheduler
        scheduler.step("recv_into()")
        self._check()
        started = scheduler.now
        while not self.is_readable:
            if self._timeout == 0:
                raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")
            arrives = self._arriving[0][0] if self._arriving else None
            ends_at = None if self._timeout is None else started + self._timeout
            times = [at for at in (arrives, ends_at) if at is not None]
            self._reader = scheduler.current
            try:
                woken = scheduler.wait(min(times) if times else None, "reply")
            finally:
                self._reader = None
            if not woken and ends_at is not None and not self.is_readable and (
                scheduler.now >= ends_at
            ):  # fmt: skip
                raise TimeoutError("timed out")
        if self.is_shut or not self._arriving:
            return 0
        data = self._arriving.popleft()[1]
        buffer[: len(data)] = data
        return len(data)

    @property
    def is_readable(self) -> bool:
        """Return whether there is a reply, or the end of the connection."""
        if self.is_shut or self.is_closed:
            return True
        if self._arriving:
            return self._arriving[0][0] <= self._scheduler.now
        return self.is_dead

    def shutdown(self, how: int) -> None:
        self._scheduler.step("shutdown()")
        if self.is_dead or self.is_closed:
            raise OSError(errno.ENOTCONN, "Transport endpoint is not connected")
        self.is_shut = True
        self._wake()

    def close(self) -> None:
        self._scheduler.step("close()")
        self.is_closed = True
        self.server.closes(self)

    def die(self) -> None:
        """Have the server close the connection."""
        self.is_dead = True
        self._arriving.clear()
        self._wake()

    def _wake(self) -> None:
        if self._reader is not None:
            self._scheduler.wake(self._reader)

    def _check(self) -> None:
        """Raise if it is closed; another thread than its holder must not use it."""
        if self.is_closed:
            raise OSError(errno.EBADF, "Bad file descriptor")
        holder = self.server.holders.get(self)
        current = self._scheduler.current
        if holder is not None and current is not None and holder is not current:
            self._scheduler.fail(f"{current.name} uses the connection that {holder.name} holds")

    def _pause(self, ends_at: float, what: str) -> None:
        started = self._scheduler.now
        limit = None if self._timeout is None else started + self._timeout
        self._scheduler.wait(ends_at if limit is None else min(ends_at, limit), what)
        if limit is not None and ends_at > limit:
            raise TimeoutError("timed out")


class Poll:
    """Like :class:`select.poll`, of one socket."""

    def __init__(self) -> None:
        self._socket: Socket | None = None

    def register(self, opened: Socket, events: int) -> None:
        self._socket = opened

    def poll(self, timeout: int | None = None) -> list[tuple[int, int]]:
        running().step("poll()")
        return [(0, 1)] if self._socket is not None and self._socket.is_readable else []


Poll.__module__ = "select"  # the direct way asks for it
