"""Durations, sizes and shares as text."""

from __future__ import annotations

from .records import ReplySize


def milliseconds(seconds: float) -> str:
    """Return a duration as text: ``0.044 ms``, ``0.21 ms``, ``3.4 ms``, ``312 ms``."""
    value = seconds * 1000
    digits = 3 if 0 < value < 0.1 else 2 if value < 1 else 1 if value < 100 else 0
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


def percent(part: float, whole: float) -> str:
    """Return a share as text: ``91 %``, or ``less than 1 %``."""
    share = 100 * part / whole if whole else 0.0
    return "less than 1 %" if 0 < share < 1 else f"{share:.0f} %"


def counted(number: int, noun: str) -> str:
    """Return a number with its noun: ``1 operation``, ``2 operations``."""
    return f"{number} {noun}{'' if number == 1 else 's'}"
