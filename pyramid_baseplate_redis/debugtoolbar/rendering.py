"""The variables of the panel's template, as text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..runtime.call_stack import CallingLine
from .advice import Advice, advice
from .badge import badge_of
from .marks import MEANINGS, marks_of
from .quantities import counted, milliseconds, percent, size_text
from .records import RecordedOperation, Recording, Totals
from .timeline import Share, share_of

_MOST_OPEN = 5  # a pipeline with more commands is shown folded
_SEEN = 0.00001  # seconds; a shorter time is shown as 0.00 ms
_OVERLAP = 1.01  # below it, the difference is lost when the durations are rounded


def template_values(recording: Recording) -> dict[str, Any]:
    """Return the variables of the template."""
    found = advice(recording)
    clients = [_totals(name, totals) for name, totals in recording.clients.items()]
    blocking = {group.first.origin for group in recording.groups if group.is_blocking}
    return {
        "share": _share(share_of(recording), recording),
        "badge": badge_of(recording, found),
        "advice": [_suggestion(each) for each in found],
        "clients": clients,
        "total": _totals("All", recording.total) if len(clients) > 1 else None,
        "rows": [
            _row(number, operation, recording, operation.origin in blocking)
            for number, operation in enumerate(recording.operations, 1)
        ],
        "left_out": recording.left_out,
        "seconds": milliseconds(recording.seconds),
        "meanings": MEANINGS,
    }


def _share(share: Share, recording: Recording) -> dict[str, Any]:
    notes = []
    waited = share.waiting >= _SEEN
    if waited:
        notes.append(f"This includes {milliseconds(share.waiting)} of waiting for a connection.")
    if share.added > share.redis * _OVERLAP:
        notes.append(
            f"Operations overlap: their durations add up to {milliseconds(share.added)}, but the "
            "time that they share is counted once."
        )
    later = sum(map(recording.is_after_response, recording.operations))
    if later:
        notes.append(f"Operations after the response ({later}) are not included.")
    whole = share.request or 1.0
    return {
        "sentence": (
            f"Redis took {'at most ' if share.is_most else ''}"
            f"{percent(share.redis, share.request)} of this request: "
            f"{milliseconds(share.redis)} of {milliseconds(share.request)}."
        ),
        "notes": " ".join(notes),
        "redis": milliseconds(share.redis - share.waiting),
        "waiting": milliseconds(share.waiting) if waited else "",
        "application": milliseconds(share.application),
        "redis_width": f"{100 * (share.redis - share.waiting) / whole:.2f}",
        "waiting_width": f"{100 * share.waiting / whole:.2f}",
    }


def _suggestion(found: Advice) -> dict[str, Any]:
    return {
        "mark": found.mark,
        "seen": found.seen,
        **_place(found.lines),
        "remedy": found.remedy,
        "saves": f"Saves up to {milliseconds(found.saving.seconds)}" if found.saving else "",
        "basis": found.saving.basis if found.saving else "",
    }


def _totals(name: str, totals: Totals) -> dict[str, Any]:
    return {
        "name": name,
        "operations": totals.operations,
        "commands": totals.commands,
        "duration": milliseconds(totals.duration),
        "waited": milliseconds(totals.waited),
        "size": size_text(totals.size),
        "errors": totals.errors,
    }


def _place(lines: Sequence[CallingLine]) -> dict[str, str]:
    return {
        "line": str(lines[0]) if lines else "an unknown line",
        "lines": "\n".join(line.whole for line in lines),
    }


def _row(
    number: int, operation: RecordedOperation, recording: Recording, is_blocking: bool
) -> dict[str, Any]:
    seconds = recording.seconds or 1.0
    count = len(operation.commands) + operation.left_out
    marks = marks_of(operation, is_blocking)
    end = operation.at + operation.duration
    return {
        "number": number,
        "client": operation.client,
        "pipeline": operation.name if operation.is_pipeline else None,
        "count": counted(count, "command"),
        "is_short": count <= _MOST_OPEN,
        "commands": operation.commands,
        "left_out": operation.left_out,
        "error": operation.error,
        "marks": marks,
        "duration": f"{operation.duration * 1000:.2f}",
        "waited": f"{operation.waited * 1000:.2f}" if operation.waited else "",
        "size": size_text(operation.size),
        "bytes": operation.size.bytes,
        **_place(operation.lines),
        "is_after_response": recording.is_after_response(operation),
        "style": "danger" if operation.error else "warning" if marks else "",
        "interval": f"from {operation.at * 1000:.2f} ms to {end * 1000:.2f} ms",
        "left": f"{100 * operation.at / seconds:.2f}",
        "waiting_width": f"{100 * operation.waited / seconds:.2f}",
        "width": f"{100 * operation.executed / seconds:.2f}",
    }
