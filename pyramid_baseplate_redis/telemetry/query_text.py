"""The text of a command for its span: always its name, its keys if configured, never its values."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..command_table import KEY_POSITIONS, operation_name

MOST_SHOWN = 64  # limit for arguments, and for commands of a batch, in one db.query.text


def query_text(args: Sequence[Any], mode: str) -> str:
    """Return a command with ``?`` for its values, and in mode ``sanitized`` for its keys as well.

    :param mode: ``keys`` or ``sanitized``.
    """
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
    """Return a key or a name as text, shortened to 256 characters."""
    text = value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
    return text if len(text) <= 256 else f"{text[:253]}..."
