"""Numbers, times and sizes as the queues page writes them."""

from __future__ import annotations

from datetime import datetime, timedelta
from xml.etree.ElementTree import Element

from .html import element

#: Stands for a number or a text that there is none of.
ABSENT = "\N{EN DASH}"

_UNITS = (("d", 86_400), ("h", 3_600), ("min", 60), ("s", 1))


def number(value: int | None) -> str:
    """Return a number with separators, or a dash if there is none."""
    return ABSENT if value is None else f"{value:,}"


def counted(count: int, noun: str) -> str:
    """Return a number and its noun: ``1 dead letter``, ``2 dead letters``."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def duration(span: timedelta | None) -> str:
    """Return a duration in its two largest units, such as ``3 min 20 s``."""
    if span is None:
        return ABSENT
    rest = round(span.total_seconds())
    parts = []
    for unit, seconds in _UNITS:
        if rest >= seconds:
            parts.append(f"{rest // seconds} {unit}")
            rest %= seconds
        elif parts:
            break
    return " ".join(parts[:2]) or "0 s"


def moment(time: datetime) -> Element:
    """Return a time, which is in UTC, as an element."""
    return element("time", f"{time:%Y-%m-%d %H:%M:%S} UTC", datetime=time.isoformat())


def size(count: int) -> str:
    """Return a number of bytes."""
    return counted(count, "byte")
