"""Suggestions from a request's recorded operations: too many, slow, waiting, large replies."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ..command_table import only_reads
from ..runtime.call_stack import CallingLine
from .records import Group, Recording, ReplySize

MANY = 5  # operations with one name from one line
SLOW_SECONDS = 0.1
LARGE_BYTES = 100_000
_IN_ONE = {
    "GET": "MGET",
    "HGET": "HMGET",
    "SET": "MSET",
    "SISMEMBER": "SMISMEMBER",
    "ZSCORE": "ZMSCORE",
    "DEL": "one DEL with all keys",
    "EXISTS": "one EXISTS with all keys",
    "TOUCH": "one TOUCH with all keys",
    "UNLINK": "one UNLINK with all keys",
}
_SCANS = {"SCAN", "HSCAN", "SSCAN", "ZSCAN"}


@dataclass(frozen=True)
class Advice:
    """One suggestion."""

    #: ``many``, ``slow``, ``wait`` or ``large``.
    kind: str
    client: str
    #: The observation: ``12 GETs``.
    seen: str
    #: The lines of the application that issued it, innermost first.
    lines: tuple[CallingLine, ...]
    #: A possible remedy: ``use MGET or a named pipeline``.
    remedy: str


def advice(recording: Recording) -> list[Advice]:
    """Return the suggestions for a request, in the order in which the operations were recorded."""
    return [found for group in recording.groups for found in _of_group(group)]


def is_slow(seconds: float) -> bool:
    """Return whether a duration is at least 100 ms."""
    return seconds >= SLOW_SECONDS


def is_large(size: ReplySize) -> bool:
    """Return whether a reply has at least 100 kB or more than 10,000 values."""
    return size.bytes >= LARGE_BYTES or size.is_least


def _of_group(group: Group) -> Iterator[Advice]:
    client, lines = group.first.client, group.first.lines
    is_one_command = group.count == 1 and not group.first.is_pipeline
    what = group.first.commands[0] if is_one_command else group.first.name
    up_to = "up to " if group.count > 1 else ""
    if group.count >= MANY and not group.is_blocking:
        seen, remedy = _many(group)
        if remedy:
            yield Advice("many", client, seen, lines, remedy)
    if is_slow(group.longest) and not group.is_blocking:
        seen = f"{what} took {up_to}{milliseconds(group.longest)}"
        remedy = "ask for less data at once, or check whether the server is busy or far away"
        yield Advice("slow", client, seen, lines, remedy)
    if is_slow(group.longest_wait):
        seen = f"{what} waited {up_to}{milliseconds(group.longest_wait)} for a connection"
        remedy = (
            f"raise {client}.max_connections, or set {client}.leak_warning to find out what keeps "
            "connections"
        )
        yield Advice("wait", client, seen, lines, remedy)
    if is_large(group.largest):
        seen = f"reply of {up_to}{size_text(group.largest)} to {what}"
        yield Advice("large", client, seen, lines, "ask for a part: a range, or some fields")


def _many(group: Group) -> tuple[str, str]:
    command, count = group.first.name, group.count
    if group.first.is_pipeline:
        return f"{command}, {count} times", "combine them into one pipeline"
    if group.is_same and only_reads(command):
        return f"{group.first.commands[0]}, {count} times", "ask once and keep the reply"
    if group.is_same and command == "SET":
        return "", ""  # the same SET again and again: the caller waits for a lock
    seen = f"{count} {command}" if command.endswith("S") else f"{count} {command}s"
    if command in _SCANS:
        return seen, "raise COUNT"
    remedies = [_IN_ONE[command]] if command in _IN_ONE else []
    return seen, f"use {' or '.join([*remedies, 'a named pipeline'])}"


def milliseconds(seconds: float) -> str:
    """Return a duration as text: ``0.21 ms``, ``3.4 ms``, ``312 ms``."""
    value = seconds * 1000
    digits = 2 if value < 1 else 1 if value < 100 else 0
    return f"{value:.{digits}f} ms"


def size_text(size: ReplySize) -> str:
    """Return a size as text: ``97 bytes``, ``1.2 kB``, ``more than 3.4 MB``."""
    value, unit = float(size.bytes), "bytes"
    for larger in ("kB", "MB", "GB"):
        if value < 1000:
            break
        value, unit = value / 1000, larger
    number = f"{value:.0f}" if unit == "bytes" else f"{value:.1f}"
    return f"{'more than ' if size.is_least else ''}{number} {unit}"
