"""Hot keys: a sample of the keys that commands read and write, counted on the server.

As in baseplate, the counts are in two sorted sets, one for reads and one for writes.
"""

from __future__ import annotations

import atexit
import logging
import random
import threading
import time
import weakref
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import redis
from redis.client import NEVER_DECODE

from ...runtime.background import start_thread
from ...runtime.process_local import ProcessLocal
from ..otel import status_code, suppressed
from .commands import SETS, _Command, _member, _pieces, _Table, _trimmed

logger = logging.getLogger(__package__)

EXPIRY_SECONDS = 24 * 3600
ROUND_SECONDS = 1.0  # between two flushes
IDLE_ROUNDS = 10  # rounds without a sample after which the thread ends
EXIT_SECONDS = 1.0  # time that a last flush may take at the end of the process
MOST_KEYS = 10_000  # keys of each kind that wait for a flush, or are kept when one fails
MOST_COMMANDS = 1_000  # commands that wait for the background thread to find their keys
MOST_COUNTED = 100_000  # members kept per sorted set, to bound its size
_TABLE_SECONDS = 300.0  # an unknown command makes the tracker read an older table again


class HotKey(NamedTuple):
    """A key, and the number of sampled commands that used it."""

    key: bytes
    samples: float


def hot_keys(client: Any, kind: str = "reads", count: int = 10) -> list[HotKey]:
    """Return the keys that were sampled most often, the most frequent one first.

    :param client: any client of redis-py for the server, monitored or not.
    :param kind: ``reads`` or ``writes``.
    :param count: the maximum number of keys.
    :raises ValueError: ``kind`` is another one, or ``count`` is below 1.
    :raises redis.RedisError: the server cannot be reached or reports an error.
    """
    if kind not in SETS:
        raise ValueError(f"kind: {kind!r} is neither 'reads' nor 'writes'")
    if count < 1:
        raise ValueError(f"count: {count!r} is not a positive number")
    options = {"withscores": True, NEVER_DECODE: True}  # a key may be any bytes
    pairs = client.execute_command(
        "ZRANGE", SETS[kind], 0, count - 1, "REV", "WITHSCORES", **options
    )
    return [HotKey(key, float(samples)) for key, samples in pairs]


class _Process:
    """The state of a tracker in one process; a forked one starts with an empty one."""

    def __init__(self) -> None:
        # (kind, key), and (random number, command) for a command whose keys are not known yet.
        self.keys: deque[tuple[str, Any]] = deque()
        self.commands: deque[tuple[float, Sequence[Any]]] = deque()
        self.counts: dict[str, Counter[Any]] = {kind: Counter() for kind in SETS}
        self.dropped = 0
        self.table: _Table | None = None
        self.client: Any = None
        self.lock = threading.Lock()  # one flush at a time
        self.wake = threading.Event()
        self.is_running = False
        self.is_failing = False
        self.told_of_dropped = False
        self.told: set[str] = set()  # failures that were logged: each is logged once
        self.idle_rounds = 0

    @property
    def is_pending(self) -> bool:
        return bool(self.keys or self.commands or any(self.counts.values()))


class HotKeyTracker:
    """Counts the keys of some of a client's commands, in the background.

    A request draws a random number for each command and appends a sampled one to a queue in
    memory. A daemon thread writes the counts to the server about once a second. It ends after ten
    seconds without samples, or when the tracker is garbage-collected.

    :param client: returns a client of redis-py that is not monitored; called in the background.
    :param reads_rate: the fraction of reading commands to sample, from 0 to 1.
    :param writes_rate: the fraction of writing commands to sample, from 0 to 1.
    :param name: the client's name, for the log.
    """

    def __init__(
        self,
        client: Callable[[], Any],
        reads_rate: float,
        writes_rate: float,
        name: str = "redis",
    ) -> None:
        self._make_client = client
        self._rates = {"reads": reads_rate, "writes": writes_rate}
        self._most = max(reads_rate, writes_rate)
        self.name = name
        self._processes = ProcessLocal(_Process)
        _trackers.add(self)

    @property
    def dropped(self) -> int:
        """The number of samples that this process dropped because its queues were full."""
        return self._process().dropped

    def sample(self, args: Sequence[Any]) -> None:
        """Count the keys of a command if chance selects it; never fail or wait."""
        roll = random.random()
        if roll >= self._most:
            return
        try:
            self._sampled(roll, args)
        except Exception:  # a malformed command, which the server would refuse
            return

    def stop(self) -> None:
        """Take no more samples in this process; those already taken are still written."""
        self._most = 0.0

    def _sampled(self, roll: float, args: Sequence[Any]) -> None:
        process = self._process()
        pieces = _pieces(args)
        table = process.table
        command = table.find(pieces) if table is not None else None
        if command is not None and not command.is_movable:
            assert table is not None
            if self._wants(command, roll):
                self._add(process, str(command.kind), table.keys(None, pieces))
        elif command is None or self._wants(command, roll):
            kept = _trimmed(pieces)
            if kept is None or len(process.commands) >= MOST_COMMANDS:
                process.dropped += 1
            else:
                process.commands.append((roll, kept))
        if not process.is_running and process.is_pending:
            process.is_running = True
            self._start(process)

    def _wants(self, command: _Command, roll: float) -> bool:
        return command.kind is not None and roll < self._rates[command.kind]

    def _add(self, process: _Process, kind: str, keys: Sequence[Any]) -> None:
        if len(process.keys) + len(keys) > MOST_KEYS:
            process.dropped += 1
            return
        members = (_member(key) for key in keys)
        process.keys.extend((kind, member) for member in members if member is not None)

    def _process(self) -> _Process:
        return self._processes.own()

    # In the background

    def _start(self, process: _Process) -> None:
        if not start_thread(_rounds(weakref.ref(self)), process.wake):
            process.is_running = False

    def flush(self) -> bool:
        """Write the samples to the server now, in the calling thread; never raise.

        It is for tests and the end of scripts.

        :returns: whether everything was written.
        """
        process = self._process()
        # Instrumentation of redis-py would make spans of what is written.
        with process.lock, suppressed():
            try:
                failure = self._find_keys(process)
                _count(process)
                _write(process)
                if failure is not None:
                    raise failure
            except Exception as error:
                self._tell(process, error)
            else:
                process.is_failing = False
        return not process.is_pending

    def _find_keys(self, process: _Process) -> Exception | None:
        """Find the keys of the waiting commands; return a NOPERM error, if there was one."""
        if process.client is None and process.is_pending:
            process.client = self._make_client()
        if process.commands and process.table is None:
            process.table = _Table(process.client)
        failure: Exception | None = None
        for _ in range(len(process.commands)):
            roll, pieces = process.commands.popleft()
            try:
                table = self._table_for(process, pieces)
                command = table.find(pieces)
                if command is not None and self._wants(command, roll):
                    kind = str(command.kind)
                    self._add(process, kind, table.keys(process.client, pieces))
            except redis.exceptions.NoPermissionError as error:
                failure = error
            except (redis.ConnectionError, redis.TimeoutError):
                process.commands.appendleft((roll, pieces))
                raise
            except Exception:  # a malformed command
                continue
        return failure

    def _table_for(self, process: _Process, pieces: Sequence[Any]) -> _Table:
        table = process.table
        assert table is not None
        old = time.monotonic() - table.read_at > _TABLE_SECONDS
        if old and table.find(pieces) is None:
            table = process.table = _Table(process.client)
        return table

    def _tell(self, process: _Process, error: Exception) -> None:
        process.is_failing = True
        # The error's text is not logged, since it may contain a key or a password.
        code = status_code(error)
        what = f"{type(error).__name__} {code}" if code else type(error).__name__
        if what not in process.told:
            process.told.add(what)
            logger.warning("%s: cannot count hot keys: %s", self.name, what)

    def _round(self) -> bool:
        """Flush; return whether there will be another round."""
        process = self._process()
        process.idle_rounds = 0 if process.is_pending else process.idle_rounds + 1
        self.flush()
        if process.dropped and not process.told_of_dropped:
            process.told_of_dropped = True
            logger.warning("%s: hot keys are sampled faster than they can be counted", self.name)
        if process.idle_rounds < IDLE_ROUNDS:
            return True
        client, process.client = process.client, None
        if client is not None:
            client.close()
        process.is_running = False
        if process.is_pending and not process.is_running:  # sampled since the last look
            process.is_running = True
            return True
        return False


def _rounds(reference: weakref.ref[HotKeyTracker]) -> Iterator[float]:
    while True:
        tracker = reference()
        try:
            if tracker is None or not tracker._round():
                return
        except Exception:
            logger.exception("counting hot keys failed")
        del tracker
        yield ROUND_SECONDS


def _count(process: _Process) -> None:
    for _ in range(len(process.keys)):
        kind, key = process.keys.popleft()
        process.counts[kind][key] += 1
    for kind, counter in process.counts.items():
        if len(counter) > MOST_KEYS:
            process.dropped += len(counter) - MOST_KEYS
            process.counts[kind] = Counter(dict(counter.most_common(MOST_KEYS)))


def _write(process: _Process) -> None:
    counts = [
        (kind, key, number)
        for kind, counter in process.counts.items()
        for key, number in counter.items()
    ]
    if not counts:
        return
    pipeline = process.client.pipeline(transaction=False)
    for kind, key, number in counts:
        pipeline.execute_command("ZINCRBY", SETS[kind], number, key)
    for kind in SETS:
        if process.counts[kind]:
            pipeline.execute_command("ZREMRANGEBYRANK", SETS[kind], 0, -MOST_COUNTED - 1)
            pipeline.execute_command("EXPIRE", SETS[kind], EXPIRY_SECONDS)
    try:
        results = pipeline.execute(raise_on_error=False)
    except redis.RedisError:
        raise  # the counts are kept for the next flush
    except Exception:
        for counter in process.counts.values():
            counter.clear()  # redis-py could not encode them, and never will
        raise
    for (kind, key, _), result in zip(counts, results, strict=False):
        if not isinstance(result, Exception):
            del process.counts[kind][key]
    for result in results:
        if isinstance(result, Exception):
            raise result


_trackers: weakref.WeakSet[HotKeyTracker] = weakref.WeakSet()


def _flush_at_exit() -> None:
    """Make the running threads flush: at exit no new thread can be started."""
    ends_at = time.monotonic() + EXIT_SECONDS
    waiting = []
    for tracker in list(_trackers):
        process = tracker._process()
        if process.is_running and process.is_pending:
            process.wake.set()
            waiting.append(process)
    for process in waiting:
        while process.is_pending and not process.is_failing and time.monotonic() < ends_at:
            time.sleep(0.01)


atexit.register(_flush_at_exit)
