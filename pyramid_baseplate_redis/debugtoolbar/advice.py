"""What to mend, from what was recorded of a request's Redis: asked too often, slow, large."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ..command_table import only_reads
from ..runtime.call_stack import CallingLine
from .records import Group, Recording, ReplySize

MANY = 5  # operations
SLOW_SECONDS = 0.1
LARGE_BYTES = 100_000
_IN_ONE = {
    "GET": "MGET",
    "HGET": "HMGET",
    "SET": "MSET",
    "SISMEMBER": "SMISMEMBER",
    "ZSCORE": "ZMSCORE",
    "DEL": "one DEL of all keys",
    "EXISTS": "one EXISTS of all keys",
    "TOUCH": "one TOUCH of all keys",
    "UNLINK": "one UNLINK of all keys",
}
_SCANS = {"SCAN", "HSCAN", "SSCAN", "ZSCAN"}


@dataclass(frozen=True)
class Advice:
    """One thing to mend."""

    #: ``many``, ``slow``, ``wait`` or ``large``.
    kind: str
    client: str
    #: What was seen: ``12 GETs``.
    seen: str
    #: Where it was issued, innermost first.
    lines: tuple[CallingLine, ...]
    #: What may help.
    remedy: str


def advice(recording: Recording) -> list[Advice]:
    """What to mend, in the order in which it was recorded."""
    return [found for group in recording.groups for found in _of_group(group)]


def is_slow(seconds: float) -> bool:
    """Whether an operation took long; the wait for a connection isn't part of it."""
    return seconds >= SLOW_SECONDS


def is_large(size: ReplySize) -> bool:
    """Whether a reply is large: in bytes, or in the number of its values."""
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
        remedy = "look at less data at once, or find out whether the server is busy or far away"
        yield Advice("slow", client, seen, lines, remedy)
    if is_slow(group.longest_wait):
        seen = f"{what} waited {up_to}{milliseconds(group.longest_wait)} for a connection"
        remedy = f"raise {client}.max_connections, or find out what keeps connections"
        yield Advice("wait", client, seen, lines, remedy)
    if is_large(group.largest):
        seen = f"{what} had a reply of {up_to}{size_text(group.largest)}"
        yield Advice("large", client, seen, lines, "ask for a part of it: a range, some fields")


def _many(group: Group) -> tuple[str, str]:
    command, count = group.first.name, group.count
    if group.first.is_pipeline:
        return f"{count} times {command}", "put all their commands into one pipeline"
    if group.is_same and only_reads(command):
        return f"{count} times {group.first.commands[0]}", "ask once and keep the reply"
    if group.is_same and command == "SET":
        return "", ""  # somebody waits for a lock
    seen = f"{count} {command}" if command.endswith("S") else f"{count} {command}s"
    if command in _SCANS:
        return seen, "raise its count"
    remedies = [_IN_ONE[command]] if command in _IN_ONE else []
    return seen, f"use {' or '.join([*remedies, 'a named pipeline'])}"


def milliseconds(seconds: float) -> str:
    """``0.21 ms``, ``3.4 ms``, ``312 ms``."""
    value = seconds * 1000
    digits = 2 if value < 1 else 1 if value < 100 else 0
    return f"{value:.{digits}f} ms"


def size_text(size: ReplySize) -> str:
    """``97 bytes``, ``1.2 kB``, ``more than 3.4 MB``."""
    value, unit = float(size.bytes), "bytes"
    for larger in ("kB", "MB", "GB"):
        if value < 1000:
            break
        value, unit = value / 1000, larger
    number = f"{value:.0f}" if unit == "bytes" else f"{value:.1f}"
    return f"{'more than ' if size.is_least else ''}{number} {unit}"
