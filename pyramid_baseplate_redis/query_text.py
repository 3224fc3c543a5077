"""What may be told of a command: its name always, its keys if wanted, its values never."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .key_positions import KEY_POSITIONS

MOST_SHOWN = 64  # arguments, or commands of a batch, in one db.query.text
_CONTAINERS = {
    "ACL", "CLIENT", "CLUSTER", "COMMAND", "COMMANDLOG", "CONFIG", "DEBUG", "FUNCTION", "HIMPORT",
    "LATENCY", "MEMORY", "MODULE", "OBJECT", "PUBSUB", "SCRIPT", "SENTINEL", "SLOWLOG", "XGROUP",
    "XINFO",
}  # fmt: skip


def operation_name(command: object) -> str:
    """The name of a command as redis-py was given it, with nothing that could be an argument.

    redis-py splits a command at its spaces, so ``execute_command("AUTH secret")`` works.
    """
    text = command.decode("ascii", "replace") if isinstance(command, bytes) else str(command)
    words = text.upper().split(None, 2)
    if not words:
        return "UNKNOWN"
    if len(words) > 1 and words[0] in _CONTAINERS:
        return f"{words[0]} {words[1]}"
    return words[0]


def query_text(args: Sequence[Any], mode: str) -> str:
    """A command with ``?`` for its values, and in mode ``sanitized`` for its keys as well."""
    operation = operation_name(args[0])
    command = args[0].decode("utf-8", "replace") if isinstance(args[0], bytes) else str(args[0])
    arguments = [*command.split()[len(operation.split()) :], *args[1:]]
    shown = ["?"] * min(len(arguments), MOST_SHOWN)
    if mode == "keys" and operation in KEY_POSITIONS:
        for index in range(*KEY_POSITIONS[operation].indices(len(arguments))):
            if index < len(shown):
                shown[index] = shown_text(arguments[index])
    if len(shown) < len(arguments):
        shown.append("...")
    return " ".join([operation, *shown])


def shown_text(value: object) -> str:
    """A key or a name as text, cut off where it gets long."""
    text = value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
    return text if len(text) <= 256 else f"{text[:253]}..."
