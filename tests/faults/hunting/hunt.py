"""A hunt from its start to its end."""

from __future__ import annotations

import faulthandler
import logging
import os
import sys
import threading
import time
import traceback
from types import FrameType
from typing import Any

from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider

from .crews import Greenlets, Threads, end_of_stack
from .errors import EXPECTED, Interrupted
from .forks import Forks
from .inspection import problems_of
from .ledger import Ledger
from .planted import PLANTED
from .registers import Registers
from .report import report
from .targets import make_reader, make_targets
from .weather.process import WeatherProcess
from .workers.cluster_questions import ClusterWorker
from .workers.server_questions import ServerWorker
from .workers.worker import Worker

MOST_SECONDS_OF_A_STEP = 30  # far more than all its timeouts together
MOST_SECONDS_OF_REPAIRS = 120
FAULTS = ("interrupts", "signals", "weather", "forks", "rogues")


class Hunt:
    """One hunt, and what it found.

    :param faults: which of ``FAULTS`` there are.
    :param planted: the name of a mistake that a client makes, which the hunt has to find.
    """

    def __init__(
        self,
        *,
        topology: str,
        seconds: float,
        seed: int,
        faults: frozenset[str],
        stock: bool,
        gevent: bool,
        planted: str | None = None,
    ) -> None:
        self.topology = topology
        self.seconds = seconds
        self.seed = seed
        self.faults = faults
        self.stock = stock
        self.planted = planted
        self.over = False
        self.wrong: list[str] = []
        self.unexpected: list[str] = []
        self.unraisable: list[str] = []
        self.checked: dict[str, int] = {}
        self.crew: Any = Greenlets(self) if gevent else Threads(self)
        self.forks = Forks(self)
        self.targets: list[Any] = []
        self.workers: list[Worker] = []
        self.ledger: Ledger
        self.registers = Registers(str(os.getpid()))

    def main(self) -> int:
        """Hunt; 0 if nothing was found."""
        trace.set_tracer_provider(TracerProvider())
        _settle_logging()
        sys.unraisablehook = self._note_unraisable
        faulthandler.enable()
        faulthandler.dump_traceback_later(
            self.seconds + 3 * MOST_SECONDS_OF_A_STEP + MOST_SECONDS_OF_REPAIRS, exit=True
        )
        weather = WeatherProcess(self.topology, self.seed, "weather" in self.faults)
        size = self.crew.connections
        self.targets = make_targets(self.topology, weather.places, size, self.stock)
        if self.planted:
            self.targets = [PLANTED[self.planted](target, self.seed) for target in self.targets]
        self.ledger = Ledger(str(os.getpid()), make_reader(self.topology, weather.places))
        kind = ClusterWorker if self.topology == "cluster" else ServerWorker
        self.workers = [kind(self, number) for number in range(self.crew.count)]
        code: list[int] = []
        # Not in the main thread, which may be stuck.
        supervisor = threading.Thread(target=lambda: code.append(self._supervise(weather)))
        self.crew.start()
        supervisor.start()
        self.crew.be_the_first()
        supervisor.join()
        return code[0]

    def _supervise(self, weather: WeatherProcess) -> int:
        self._read_counters(self.seconds)
        faults, losses = weather.calm_down()
        self.crew.leave_alone()
        self.over = True
        stuck = self.crew.join(MOST_SECONDS_OF_A_STEP)
        main = self._stuck_main()
        if main:
            stuck.append(main)
        problems: list[str] = []
        if not stuck:
            self._read_counters(3)
            for target in self.targets:
                problems += problems_of(target, weather.places, self.crew.connections)
        code = report(self, faults, self._found(stuck, problems, losses))
        weather.end()
        if stuck:
            os._exit(code)
        return code

    def _read_counters(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            self.ledger.read_ended()
            time.sleep(max(0.0, min(0.1, deadline - time.monotonic())))

    def _found(
        self, stuck: list[str], problems: list[str], losses: list[tuple[int, int]]
    ) -> dict[str, list[str]]:
        counters = self.ledger.read
        calls, violations = self.registers.check(losses)
        self.checked = {
            "increments tried": sum(len(counter.attempts) for counter in counters),
            "counters compared": len(counters),
            "of them without an outage": sum(counter.is_exact(losses) for counter in counters),
            "calls of registers checked": calls,
        }
        found = {
            "wrong replies": self.wrong,
            "wrong counters": [p for counter in counters for p in counter.problems(losses)],
            "registers with a wrong history": violations,
            "unexpected errors": self.unexpected,
            "errors in destructors": self.unraisable,
            "stuck workers": stuck,
            "slots or sockets not back": problems,
            "children that failed": self.forks.failed,
        }
        idle = [worker.number for worker in self.workers if not worker.commands]
        if idle and "interrupts" in self.faults and self.seconds >= 30:
            found["workers without one reply"] = [f"{idle}"]
        return found

    def _stuck_main(self) -> str:
        """Return the stack of the main thread, if it is the one that is stuck."""
        if not isinstance(self.crew, Threads):
            return ""
        identity = threading.main_thread().ident or 0
        deadline = time.monotonic() + MOST_SECONDS_OF_A_STEP / 3
        while time.monotonic() < deadline:
            frame: FrameType | None = sys._current_frames()[identity]
            while frame is not None and frame.f_code is not Worker.live.__code__:
                frame = frame.f_back
            if frame is None:
                return ""
            time.sleep(0.05)
        return end_of_stack(sys._current_frames()[identity])

    def _note_unraisable(self, unraisable: Any) -> None:
        """Note an error in a destructor, which reaches no caller; interruptions are expected."""
        expected = (*EXPECTED, Interrupted, *self.crew.interruptions)
        if not issubclass(unraisable.exc_type, expected):
            lines = traceback.format_exception(
                unraisable.exc_type, unraisable.exc_value, unraisable.exc_traceback
            )
            self.unraisable.append(f"in {unraisable.object!r}\n{''.join(lines)}")


def _settle_logging() -> None:
    """Let no logger ask for logging's global lock, which an interruption may leave locked."""
    logging.getLogger("pyramid_baseplate_redis").addHandler(logging.NullHandler())
    for name in [*logging.root.manager.loggerDict]:
        for level in (logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR):
            logging.getLogger(name).isEnabledFor(level)
