"""The workers run as threads or as greenlets, are interrupted, and fork."""

from __future__ import annotations

import contextlib
import ctypes
import os
import random
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from types import FrameType
from typing import TYPE_CHECKING, Any

from .errors import EXPECTED, Interrupted

if TYPE_CHECKING:
    from .hunt import Hunt
    from .workers.worker import Worker

THREADS, GREENLETS, FEWER_GREENLETS = 50, 500, 150

_set_async_exc = ctypes.pythonapi.PyThreadState_SetAsyncExc


class Threads:
    """Workers that are threads; the first of them is the main thread, and gets signals."""

    interruptions: tuple[type[BaseException], ...] = ()
    count, connections = THREADS, 6

    def __init__(self, hunt: Hunt) -> None:
        self.hunt = hunt
        self.random = random.Random(hunt.seed + 1)
        self.threads: dict[int, threading.Thread] = {}
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._disturber = threading.Thread(target=self._disturb, daemon=True)

    @contextlib.contextmanager
    def hurried(self, chance: random.Random) -> Iterator[None]:
        yield

    def spares(self, worker: Worker) -> bool:
        """Don't interrupt it for the rest of its step, if it isn't too late for that."""
        with self._lock:
            late, worker.pending = worker.pending, True
        return not late

    def start(self) -> None:
        sys.setswitchinterval(0.0005)  # more places to be interrupted at
        for worker in self.hunt.workers[1:]:
            thread = threading.Thread(target=worker.live, daemon=True)
            self.threads[worker.number] = thread
            thread.start()
        if "interrupts" in self.hunt.faults:
            self._disturber.start()

    def be_the_first(self) -> None:
        """Work in the main thread, and be interrupted by signals."""
        worker = self.hunt.workers[0]
        chance = random.Random(self.hunt.seed + 2)
        client = self.hunt.targets[0].client()

        def interrupt(number: int, frame: FrameType | None) -> None:
            if worker.pending or self.hunt.over:
                return
            worker.pending = True
            if chance.random() < 0.2:  # as a handler might, it uses the pool
                with contextlib.suppress(EXPECTED):
                    worker.echo(client)
            raise Interrupted

        if "signals" in self.hunt.faults:
            signal.signal(signal.SIGALRM, interrupt)
            signal.setitimer(signal.ITIMER_REAL, 0.01, 0.0071)
        try:
            worker.live()
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)

    def _disturb(self) -> None:
        while not self._stop.wait(self.random.uniform(0, 0.008)):
            worker = self.random.choice(self.hunt.workers[1:])
            identity = ctypes.c_ulong(self.threads[worker.number].ident)
            with self._lock:
                if not worker.pending:
                    worker.pending = True
                    _set_async_exc(identity, ctypes.py_object(Interrupted))

    def leave_alone(self) -> None:
        self._stop.set()
        if self._disturber.ident:
            self._disturber.join(10)

    def join(self, seconds: float) -> list[str]:
        """Wait for all; the stacks of those who are stuck."""
        deadline = time.monotonic() + seconds
        for thread in self.threads.values():
            thread.join(max(0, deadline - time.monotonic()))
        stuck = [thread for thread in self.threads.values() if thread.is_alive()]
        frames = sys._current_frames()
        return [end_of_stack(frames[thread.ident or 0]) for thread in stuck]

    @staticmethod
    def fork(child: Callable[[], None]) -> int:
        """Fork; the child does nothing but ``child()``, which ends it."""
        pid = os.fork()
        if pid == 0:
            child()
        return pid


class Greenlets:
    """Workers that are greenlets; they are killed, and time out."""

    count, connections = GREENLETS, 20

    def __init__(self, hunt: Hunt) -> None:
        import gevent

        self.gevent = gevent
        if hunt.topology != "standalone":  # the servers take most of the processors' time
            self.count, self.connections = FEWER_GREENLETS, 8
        self.interruptions = (gevent.GreenletExit, gevent.Timeout)
        self.hunt = hunt
        self.random = random.Random(hunt.seed + 1)
        self.greenlets: list[Any] = []
        self._over = False

    @contextlib.contextmanager
    def hurried(self, chance: random.Random) -> Iterator[None]:
        if "interrupts" not in self.hunt.faults or chance.random() > 0.05:
            yield
            return
        with self.gevent.Timeout(chance.choice([0.0001, 0.003, 0.05])):
            yield

    def spares(self, worker: Worker) -> bool:
        return True  # nothing happens to it but where it waits

    def start(self) -> None:
        self.greenlets = [self.gevent.spawn(worker.live) for worker in self.hunt.workers]
        if "interrupts" in self.hunt.faults:
            self.gevent.spawn(self._disturb)

    def be_the_first(self) -> None:
        pass

    def _disturb(self) -> None:
        while not self._over:
            self.gevent.sleep(self.random.uniform(0, 0.008))
            greenlet = self.random.choice(self.greenlets)
            kind = self.random.choice([Interrupted, self.gevent.GreenletExit])
            greenlet.kill(kind, block=False)

    def leave_alone(self) -> None:
        self._over = True

    def join(self, seconds: float) -> list[str]:
        """Wait for all; the stacks of those who are stuck."""
        self.gevent.joinall(self.greenlets, timeout=seconds)
        stuck = [greenlet for greenlet in self.greenlets if not greenlet.dead]
        return [end_of_stack(greenlet.gr_frame) for greenlet in stuck]

    @staticmethod
    def fork(child: Callable[[], None]) -> int:
        """Fork a thread of its own.

        Behind a fork of this one, the child would have a copy of each greenlet. As soon as anything
        waits, and OpenTelemetry does while it is forked, they go on, and read what their parents
        were to read: a forked event loop is nobody's to save.
        """
        from gevent import monkey

        fork, sleep = monkey.get_original("os", "fork"), monkey.get_original("time", "sleep")
        forked: list[int] = []

        def run() -> None:
            pid = fork()
            if pid == 0:
                child()
            forked.append(pid)

        monkey.get_original("_thread", "start_new_thread")(run, ())
        while not forked:
            sleep(0.0002)
        return forked[0]


def end_of_stack(frame: FrameType | None) -> str:
    return "".join(traceback.format_stack(frame)[-12:])
