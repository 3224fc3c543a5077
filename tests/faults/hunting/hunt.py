"""A hunt from its start to its report."""

from __future__ import annotations

import contextlib
import faulthandler
import gc
import logging
import os
import signal
import sys
import threading
import time
import traceback
from collections import Counter
from types import FrameType
from typing import Any

import redis
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from rich.console import Console
from rich.table import Table

from .crews import Greenlets, Threads, end_of_stack
from .errors import EXPECTED, Interrupted
from .targets import Ours, Stock
from .weather import WeatherProcess
from .worker import Worker

MOST_SECONDS_OF_A_STEP = 30  # far more than all its timeouts together
FAULTS = ("interrupts", "signals", "weather", "forks", "rogues")


class Hunt:
    """One hunt, and what it found.

    :param faults: which of ``FAULTS`` there are.
    """

    def __init__(
        self, *, seconds: float, seed: int, faults: frozenset[str], stock: bool, gevent: bool
    ) -> None:
        self.seconds = seconds
        self.seed = seed
        self.faults = faults
        self.stock = stock
        self.over = False
        self.wrong: list[str] = []
        self.unexpected: list[str] = []
        self.unraisable: list[str] = []
        self.children = 0
        self.failed_children: list[str] = []
        self.crew: Any = Greenlets(self) if gevent else Threads(self)
        self.targets: list[Any] = []
        self.workers: list[Worker] = []
        self._next_fork = 0.0

    def main(self) -> int:
        """Hunt; 0 if nothing was found."""
        trace.set_tracer_provider(TracerProvider())
        _settle_logging()
        sys.unraisablehook = self._note_unraisable
        faulthandler.dump_traceback_later(self.seconds + 3 * MOST_SECONDS_OF_A_STEP, exit=True)
        weather = WeatherProcess(self.seed, "weather" in self.faults)
        make, size = Stock if self.stock else Ours, self.crew.connections
        self.targets = [
            make("hunt-direct", weather.port, size, health_check_interval="1 s",
                 breaker_failures="20", breaker_reset="20 ms"),
            make("hunt-through-proxy", weather.proxy_port, size, protocol="2", retries="2",
                 retry_budget="1 s", max_lifetime="2 s", max_idle_time="500 ms",
                 leak_warning="1 s"),
        ]  # fmt: skip
        self.workers = [Worker(self, number) for number in range(self.crew.count)]
        code: list[int] = []
        # Not in the main thread, which may be stuck.
        supervisor = threading.Thread(target=lambda: code.append(self._supervise(weather)))
        self.crew.start()
        supervisor.start()
        self.crew.be_the_first()
        supervisor.join()
        return code[0]

    def _supervise(self, weather: WeatherProcess) -> int:
        time.sleep(self.seconds)
        faults = weather.calm_down()
        self.crew.leave_alone()
        self.over = True
        stuck = self.crew.join(MOST_SECONDS_OF_A_STEP)
        main = self._stuck_main()
        if main:
            stuck.append(main)
        problems = [] if stuck else self._problems_at_the_end(weather.port)
        code = self._report(faults, stuck, problems)
        weather.end()
        if stuck:
            os._exit(code)
        return code

    def _stuck_main(self) -> str:
        """The stack of the main thread, if it is the one who is stuck."""
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

    # Forks

    def maybe_fork(self, worker: Worker) -> None:
        """Fork a child that uses what it inherits, unless somebody has just done so."""
        now = time.monotonic()
        if "forks" not in self.faults or now < self._next_fork:
            return
        self._next_fork = now + 0.5
        target = worker.random.choice(self.targets)
        pipeline, single, wanted = worker.held_by_parent(target)
        read, write = os.pipe()
        pid = self.crew.fork(lambda: self._be_child(worker, target, pipeline, single, write))
        os.close(write)
        try:
            # What the child did with it is none of the parent's business.
            with contextlib.suppress(EXPECTED):
                worker.check(pipeline.execute(), wanted)
            with contextlib.suppress(EXPECTED), single:
                worker.echo(single)
        finally:
            self._bury(pid, read)

    def _be_child(
        self, worker: Worker, target: Any, pipeline: Any, single: Any, write: int
    ) -> None:
        try:
            signal.setitimer(signal.ITIMER_REAL, 0)
            self.wrong, self.unexpected, self.unraisable = [], [], []
            self.faults = frozenset()
            self._child(worker, target, pipeline, single)
            found = "\n".join(self.wrong + self.unexpected + self.unraisable)
            os.write(write, found.encode()[:4000] or b"well")
        finally:
            os._exit(0)

    def _child(self, worker: Worker, target: Any, pipeline: Any, single: Any) -> None:
        try:
            worker.child(target, pipeline, single)
        except EXPECTED:
            pass
        except BaseException as error:
            self.unexpected.append("".join(traceback.format_exception(error)))

    def _bury(self, pid: int, read: int) -> None:
        """Wait for a child, and note what it says if it failed; an interruption has to wait."""
        interrupted: BaseException | None = None
        deadline = time.monotonic() + MOST_SECONDS_OF_A_STEP / 3
        os.set_blocking(read, False)
        self.children += 1
        while True:
            try:
                # What it says, not its status: gevent waits for every process that ends.
                said = os.read(read, 4000).decode()
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    os.kill(pid, signal.SIGKILL)
                    said = "it was stuck"
                    break
            except (Interrupted, *self.crew.interruptions) as error:
                interrupted = error
            with contextlib.suppress(Interrupted, *self.crew.interruptions):
                time.sleep(0.005)
        os.close(read)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, 0)  # it ends at once
        if said != "well":
            self.failed_children.append(said or "it ended without a word")
        if interrupted is not None:
            raise interrupted

    # The end

    def _problems_at_the_end(self, port: int) -> list[str]:
        gc.collect()
        problems = []
        admin = redis.Redis(port=port, client_name="admin")
        size = self.crew.connections
        for target in self.targets:
            in_use, _ = target.stats()
            if in_use:
                problems.append(f"{target.name}: {in_use} slots are in use at the end")
            # All at once: this needs each slot, and finds the idle ones that the server closed.
            try:
                taken = [target.pool.get_connection() for _ in range(size)]
            except redis.RedisError as error:
                problems.append(f"{target.name}: not all slots are usable: {error!r}")
                continue
            identities = set()
            for number, connection in enumerate(taken):
                connection.send_command("ECHO", f"last {number}")
                reply = connection.read_response()
                if reply != f"last {number}".encode():
                    self.wrong.append(f"{reply!r} instead of last {number}")
                connection.send_command("CLIENT", "ID")
                identities.add(connection.read_response())
            if len(identities) != size:
                problems.append(f"{target.name}: {size} holders, {len(identities)} sockets")
            for connection in taken:
                target.pool.release(connection)
            del taken, connection
            problems += self._lost_sockets(admin, target)
        return problems

    def _lost_sockets(self, admin: Any, target: Any) -> list[str]:
        deadline = time.monotonic() + 5  # until the server has seen the last ones go
        while True:
            seen = sum(client["name"] == target.name for client in admin.client_list())
            in_use, opened = target.stats()
            if (in_use, opened) == (0, seen):
                return []
            if time.monotonic() > deadline:
                return [f"{target.name}: {in_use} in use, {opened} open, the server sees {seen}"]
            time.sleep(0.05)

    def _note_unraisable(self, unraisable: Any) -> None:
        """What is raised in a destructor reaches nobody else; an interruption may well be."""
        expected = (*EXPECTED, Interrupted, *self.crew.interruptions)
        if not issubclass(unraisable.exc_type, expected):
            lines = traceback.format_exception(
                unraisable.exc_type, unraisable.exc_value, unraisable.exc_traceback
            )
            self.unraisable.append(f"in {unraisable.object!r}\n{''.join(lines)}")

    def _report(self, faults: dict[str, int], stuck: list[str], problems: list[str]) -> int:
        found = {
            "wrong replies": self.wrong,
            "unexpected errors": self.unexpected,
            "errors in destructors": self.unraisable,
            "stuck workers": stuck,
            "slots or sockets not back": problems,
            "children that failed": self.failed_children,
        }
        idle = [worker.number for worker in self.workers if not worker.commands]
        if idle and "interrupts" in self.faults and self.seconds >= 30:
            found["workers without one reply"] = [f"{idle}"]
        errors: Counter[str] = sum((worker.errors for worker in self.workers), Counter())
        table = Table("what", "how many", title=f"the hunt, seed {self.seed}")
        table.add_row("workers", str(len(self.workers)))
        table.add_row("replies checked", str(sum(worker.commands for worker in self.workers)))
        table.add_row("interrupts", str(sum(worker.interrupts for worker in self.workers)))
        table.add_row("misuses refused", str(sum(worker.refusals for worker in self.workers)))
        table.add_row("children", str(self.children), end_section=True)
        for name, count in sorted(faults.items()):
            table.add_row(name, str(count))
        table.add_section()
        for name, count in errors.most_common():
            table.add_row(name, str(count))
        table.add_section()
        for name, items in found.items():
            table.add_row(name, str(len(items)))
        console = Console(highlight=False)
        for name, items in found.items():
            for item in items[:3]:
                console.print(f"--- {name}:\n{item}", markup=False)
        console.print(table)
        failed = {name: len(items) for name, items in found.items() if items}
        text = ", ".join(f"{count} {name}" for name, count in failed.items()) or "nothing"
        console.print(f"found {text}", markup=False)
        return 1 if failed else 0


def _settle_logging() -> None:
    """Let no logger ask for logging's global lock, which an interruption may leave locked."""
    logging.getLogger("pyramid_baseplate_redis").addHandler(logging.NullHandler())
    for name in [*logging.root.manager.loggerDict]:
        for level in (logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR):
            logging.getLogger(name).isEnabledFor(level)
