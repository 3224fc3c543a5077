"""Hot keys: a sample of the keys that commands read and write, counted on the server."""

from __future__ import annotations

import _thread
import atexit
import logging
import random
import threading
import time
import weakref
from collections import Counter, deque
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import redis
from redis.client import NEVER_DECODE

from ..runtime.process_local import ProcessLocal
from .hot_key_commands import SETS, _Command, _member, _pieces, _Table, _trimmed
from .otel import status_code, suppressed

logger = logging.getLogger(__package__)

EXPIRY_SECONDS = 24 * 3600
ROUND_SECONDS = 1.0  # between two flushes
IDLE_ROUNDS = 10  # without a sample, behind which the thread ends
EXIT_SECONDS = 1.0  # by which the end of the process may be late
MOST_KEYS = 10_000  # of each kind: waiting for a flush, and kept when one fails
MOST_COMMANDS = 1_000  # whose keys the background has to find
MOST_COUNTED = 100_000  # keys in a sorted set, which would else grow as long as it is written to
_TABLE_SECONDS = 300.0  # an unknown command has the server's table read again, if it is older


class HotKey(NamedTuple):
    """A key, and how many of the sampled commands had it."""

    key: bytes
    samples: float


def hot_keys(client: Any, kind: str = "reads", count: int = 10) -> list[HotKey]:
    """The keys that were sampled most often, most of all first.

    :param client: any client of redis-py for the server, monitored or not.
    :param kind: ``reads`` or ``writes``.
    :param count: how many, at most.
    :raises ValueError: for another kind, or a count below 1.
    :raises redis.RedisError: if the server fails.
    """
    if kind not in SETS:
        raise ValueError(f"kind: {kind!r} is neither 'reads' nor 'writes'")
    if count < 1:
        raise ValueError(f"count: {count!r} is not a number from 1 on")
    options = {"withscores": True, NEVER_DECODE: True}  # keys needn't be text
    pairs = client.execute_command(
        "ZRANGE", SETS[kind], 0, count - 1, "REV", "WITHSCORES", **options
    )
    return [HotKey(key, float(samples)) for key, samples in pairs]


class _Process:
    """What a tracker has in one process; a forked one begins anew."""

    def __init__(self) -> None:
        # (kind, key), and (roll, command) where it isn't known yet which arguments are keys.
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
        self.told: set[str] = set()  # what was logged: each failure once
        self.idle_rounds = 0

    @property
    def is_pending(self) -> bool:
        return bool(self.keys or self.commands or any(self.counts.values()))


class HotKeyTracker:
    """Counts the keys of some of a client's commands, in the background.

    A request's part in it is a random number for each command and, for one that is sampled, an
    append to a queue in memory. A daemon thread writes to the server about once a second; it
    ends when there is nothing to do, and with the tracker.

    :param client: makes a client of redis-py that isn't monitored; called in the background.
    :param reads_rate: the share of reading commands to sample, from 0 to 1.
    :param writes_rate: the same of writing ones.
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
        """How many samples this process left out, since more came than could be kept."""
        return self._process().dropped

    def sample(self, args: Sequence[Any]) -> None:
        """Perhaps count the keys of a command; never fails, never waits."""
        roll = random.random()
        if roll >= self._most:
            return
        try:
            self._sampled(roll, args)
        except Exception:  # a command that nobody understands, the server included
            return

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
        try:
            _thread.start_new_thread(_run, (weakref.ref(self), process.wake))
        except RuntimeError:  # the system has no thread left, or Python is about to end
            process.is_running = False

    def flush(self) -> bool:
        """Write what was sampled to the server now, in the calling thread.

        For tests and the end of scripts. Whether nothing is left to write; never raises.
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
        """Find the keys of what was sampled whole; the error of what the user may not ask."""
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
        # Not the error's text, which may have a key or a password.
        code = status_code(error)
        what = f"{type(error).__name__} {code}" if code else type(error).__name__
        if what not in process.told:
            process.told.add(what)
            logger.warning("%s: hot keys can't be counted: %s", self.name, what)

    def _round(self) -> bool:
        """Flush; whether to come back."""
        process = self._process()
        process.idle_rounds = 0 if process.is_pending else process.idle_rounds + 1
        self.flush()
        if process.dropped and not process.told_of_dropped:
            process.told_of_dropped = True
            logger.warning("%s: more hot keys are sampled than can be counted", self.name)
        if process.idle_rounds < IDLE_ROUNDS:
            return True
        client, process.client = process.client, None
        if client is not None:
            client.close()
        process.is_running = False
        if process.is_pending and not process.is_running:  # sampled just now
            process.is_running = True
            return True
        return False


def _run(reference: weakref.ref[HotKeyTracker], wake: threading.Event) -> None:
    while True:
        tracker = reference()
        try:
            if tracker is None or not tracker._round():
                return
        except Exception:
            logger.exception("counting hot keys failed")
        del tracker
        wake.wait(ROUND_SECONDS)
        wake.clear()


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
        raise  # kept for the next time
    except Exception:
        for counter in process.counts.values():
            counter.clear()  # what can't be sent now can't be sent later
        raise
    for (kind, key, _), result in zip(counts, results, strict=False):
        if not isinstance(result, Exception):
            del process.counts[kind][key]
    for result in results:
        if isinstance(result, Exception):
            raise result


_trackers: weakref.WeakSet[HotKeyTracker] = weakref.WeakSet()


def _flush_at_exit() -> None:
    """Have the threads write what they have; a new thread can't be started any more."""
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
