"""Suggestions from a request's recorded operations: too many, slow, waiting, large replies."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ..command_table import only_reads
from ..runtime.call_stack import CallingLine
from .marks import MANY, is_large, is_slow
from .quantities import milliseconds, size_text
from .records import Group, Recording
from .savings import Saving, Savings

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

    #: ``many``, ``slow``, ``waiting`` or ``large``.
    mark: str
    client: str
    #: The observation: ``12 GETs``.
    seen: str
    #: The lines of the application that issued it, innermost first.
    lines: tuple[CallingLine, ...]
    #: A possible remedy: ``use MGET or a named pipeline``.
    remedy: str
    #: ``None`` if it cannot be estimated.
    saving: Saving | None


def advice(recording: Recording) -> list[Advice]:
    """Return the suggestions for a request, those that save the most time first."""
    savings = Savings(recording)
    found = [each for group in recording.groups for each in _of_group(group, savings)]
    return sorted(found, key=lambda each: -each.saving.seconds if each.saving else 0.0)


def _of_group(group: Group, savings: Savings) -> Iterator[Advice]:
    client, lines = group.first.client, group.first.lines
    is_one_command = group.count == 1 and not group.first.is_pipeline
    what = group.first.commands[0] if is_one_command else group.first.name
    up_to = "up to " if group.count > 1 else ""
    if group.count >= MANY and not group.is_blocking:
        seen, remedy = _many(group)
        if remedy:
            yield Advice("many", client, seen, lines, remedy, savings.of_many(group))
    if is_slow(group.longest) and not group.is_blocking:
        seen = f"{what} took {up_to}{milliseconds(group.longest)}"
        remedy = "ask for less data at once, or check whether the server is busy or far away"
        yield Advice("slow", client, seen, lines, remedy, savings.of_slow(group))
    if is_slow(group.longest_wait):
        seen = f"{what} waited {up_to}{milliseconds(group.longest_wait)} for a connection"
        remedy = (
            f"raise {client}.max_connections, or set {client}.leak_warning to find out what keeps "
            "connections"
        )
        yield Advice("waiting", client, seen, lines, remedy, savings.of_wait(group))
    if is_large(group.largest):
        seen = f"reply of {up_to}{size_text(group.largest)} to {what}"
        remedy = "ask for a part: a range, or some fields"
        yield Advice("large", client, seen, lines, remedy, savings.of_large(group))


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
