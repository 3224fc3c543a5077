"""What may be told of a command: its name always, its keys if wanted, its values never."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..command_table import KEY_POSITIONS, operation_name

MOST_SHOWN = 64  # arguments, or commands of a batch, in one db.query.text


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
