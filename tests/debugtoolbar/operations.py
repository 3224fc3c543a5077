"""Recordings of operations whose times are known."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from pyramid_baseplate_redis.debugtoolbar.records import (
    Group,
    RecordedOperation,
    Recording,
    ReplySize,
    Totals,
)
from pyramid_baseplate_redis.runtime.call_stack import CallingLine

LINE = CallingLine("my_app/views.py", 41, "home")


def recorded(command: str, **attributes: Any) -> RecordedOperation:
    """An operation of one millisecond, at the start of the request."""
    values: dict[str, Any] = {
        "client": "foo",
        "name": command.partition(" ")[0],
        "is_pipeline": False,
        "commands": (command,),
        "left_out": 0,
        "at": 0.0,
        "duration": 0.001,
        "waited": 0.0,
        "size": ReplySize(),
        "error": None,
        "lines": (LINE,),
    }
    return RecordedOperation(**{**values, **attributes})


def in_turn(*durations: float, command: str = "GET", **attributes: Any) -> list[RecordedOperation]:
    """Operations that start one after the other, each with another key."""
    starts = [sum(durations[:number]) for number in range(len(durations))]
    return [
        recorded(f"{command} key:{number}", at=at, duration=duration, **attributes)
        for number, (at, duration) in enumerate(zip(starts, durations, strict=True))
    ]


def recording_of(
    operations: Iterable[RecordedOperation],
    handled: float | None = None,
    left_out: Iterable[RecordedOperation] = (),
) -> Recording:
    """The recording of a request.

    :param handled: the duration of the request, in seconds.
    :param left_out: further operations, which only the totals and groups count.
    """
    operations, left_out = tuple(operations), tuple(left_out)
    clients: dict[str, Totals] = {}
    groups: dict[object, Group] = {}
    for each in operations + left_out:
        totals = Totals(1, 1, each.duration, each.waited, each.size, int(bool(each.error)))
        clients.setdefault(each.client, Totals()).add(totals)
        groups.setdefault(each.origin, Group(each, is_blocking=False)).add(each)
    return Recording(operations, len(left_out), clients, tuple(groups.values()), handled)
