"""Recording of a request's Redis operations for the panel.

A limited number of short texts and figures is kept; arguments and replies are not kept alive.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from ..runtime.call_stack import calling_lines
from ..telemetry.operations import OBSERVER_KEY, Operation, current_observer
from .command_text import bears_secrets, cut, shown_argument, shown_command
from .records import Group, RecordedOperation, Recording, Totals, reply_size

T = TypeVar("T")

MOST_COMMANDS = 500  # of a request
MOST_OF_PIPELINE = 20
_MOST_GROUPS = 500
_MOST_OF_ERROR = 200  # characters
_MEANT_TO_WAIT = {
    "BLMOVE", "BLMPOP", "BLPOP", "BRPOP", "BRPOPLPUSH", "BZMPOP", "BZPOPMAX", "BZPOPMIN", "WAIT",
    "WAITAOF",
}  # fmt: skip


class Recorder:
    """An :class:`~.telemetry.operations.Observer` that records one request.

    It keeps the first 500 commands, and the first 20 of each pipeline. The totals count all.
    """

    def __init__(self) -> None:
        self._began = time.perf_counter()
        self._handled: float | None = None
        self._lock = threading.Lock()
        self._operations: list[RecordedOperation] = []
        self._commands = 0
        self._left_out = 0
        self._totals: dict[str, Totals] = {}
        self._groups: dict[object, Group] = {}

    def record(self, environ: dict[str, Any], handle: Callable[[], T]) -> T:
        """Call ``handle``, record its operations, and return its result.

        :param environ: the request's WSGI environ. The recorder is also put there, for operations
            of the request in other threads and after ``handle`` has returned.
        """
        environ[OBSERVER_KEY] = self
        token = current_observer.set(self)
        self._began = time.perf_counter()
        try:
            return handle()
        finally:
            self._handled = self._now()
            current_observer.reset(token)

    def started(self, operation: Operation) -> None:
        """See :class:`~.telemetry.operations.Observer`."""

    def ended(self, operation: Operation, result: object) -> None:
        """See :class:`~.telemetry.operations.Observer`."""
        commands = operation.commands
        sent = [operation.args] if commands is None else [args for args, _ in commands]
        client = operation.telemetry.context_name
        name = operation.name if commands is None else operation.trace_name
        recorded = RecordedOperation(
            client=client,
            name=name.removeprefix(f"{client}."),
            is_pipeline=commands is not None,
            commands=tuple(shown_command(args) for args in sent[:MOST_OF_PIPELINE]),
            left_out=max(0, len(sent) - MOST_OF_PIPELINE),
            at=operation.started - self._began,
            duration=operation.duration,
            waited=operation.notes.waited if operation.notes else 0.0,
            size=reply_size(result),
            error=_error_of(operation, sent),
            lines=calling_lines(),
        )
        with self._lock:
            self._add(recorded, len(sent))
            key = recorded.origin
            group = self._groups.get(key)
            if group is None and len(self._groups) < _MOST_GROUPS:
                is_blocking = commands is None and _is_blocking(name, operation.args)
                group = self._groups[key] = Group(recorded, is_blocking)
            if group is not None:
                group.add(recorded)

    def _add(self, recorded: RecordedOperation, commands: int) -> None:
        totals = self._totals.setdefault(recorded.client, Totals())
        totals.add(
            Totals(
                operations=1,
                commands=commands,
                duration=recorded.duration,
                waited=recorded.waited,
                size=recorded.size,
                errors=int(recorded.error is not None),
            )
        )
        if self._commands < MOST_COMMANDS:
            self._commands += max(1, len(recorded.commands))
            self._operations.append(recorded)
        else:
            self._left_out += 1

    def recording(self) -> Recording:
        """Return the operations, totals and groups recorded until now."""
        with self._lock:
            return Recording(
                operations=tuple(sorted(self._operations, key=lambda operation: operation.at)),
                left_out=self._left_out,
                clients={name: replace(totals) for name, totals in self._totals.items()},
                groups=tuple(replace(group) for group in self._groups.values()),
                handled=self._handled,
            )

    def _now(self) -> float:
        return time.perf_counter() - self._began


def _is_blocking(command: str, args: Sequence[Any]) -> bool:
    if command in _MEANT_TO_WAIT:
        return True
    return command in ("XREAD", "XREADGROUP") and "BLOCK" in map(shown_argument, args[:8])


def _error_of(operation: Operation, sent: Sequence[Sequence[Any]]) -> str | None:
    error = operation.error
    if error is None:
        return None
    name = type(error).__name__
    # The server's error message may repeat the arguments.
    if any(bears_secrets(args[0]) for args in sent):
        return f"{name}: {operation.code}" if operation.code else name
    return cut(f"{name}: {error}", _MOST_OF_ERROR)
