"""Describes errors for dead letters: their class, their text and their traceback."""

from __future__ import annotations

import traceback
from typing import Any

from ...telemetry.otel import error_type
from ..messages import DEAD_ERROR, DEAD_MESSAGE, DEAD_TRACEBACK

# Both together are at most 4 kB.
_MOST_TEXT = 1024
_MOST_TRACEBACK = 3 * 1024
_ELLIPSIS = "..."


def error_fields(error: BaseException, *, keeps_text: bool) -> list[Any]:
    """Return fields of a dead letter that describe an error.

    :param keeps_text: whether to keep the error's text and traceback, which may contain secrets.
    """
    fields: list[Any] = [DEAD_ERROR, error_type(error)]
    if keeps_text:
        lines = "".join(traceback.format_exception(error))
        fields += [
            DEAD_MESSAGE, _beginning(_text_of(error), _MOST_TEXT),
            DEAD_TRACEBACK, _end(lines, _MOST_TRACEBACK),
        ]  # fmt: skip
    return fields


def _text_of(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:  # the application's own class
        return ""


def _beginning(text: str, most: int) -> bytes:
    raw = text[:most].encode("utf-8", "replace")
    if len(text) <= most and len(raw) <= most:
        return raw
    return raw[: most - len(_ELLIPSIS)].decode("utf-8", "ignore").encode() + _ELLIPSIS.encode()


def _end(text: str, most: int) -> bytes:
    """Return the end of a traceback, which has the lines where the error was raised."""
    raw = text[-most:].encode("utf-8", "replace")
    if len(text) <= most and len(raw) <= most:
        return raw
    cut = raw[len(raw) - (most - len(_ELLIPSIS)) :].decode("utf-8", "ignore")
    return _ELLIPSIS.encode() + cut.encode()
