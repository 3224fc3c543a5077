"""How large a reply is, counted no further than a person wants to know."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

MOST_VALUES = 10_000


@dataclass(frozen=True)
class ReplySize:
    """The size of a reply, or of several."""

    #: Bytes of the values, without the protocol's own; a character of a text counts as one.
    bytes: int = 0
    #: Whether it has so many values that the rest wasn't counted.
    is_least: bool = False

    def __add__(self, other: ReplySize) -> ReplySize:
        return ReplySize(self.bytes + other.bytes, self.is_least or other.is_least)


def reply_size(reply: object) -> ReplySize:
    """The size of what redis-py returned; only the first 10,000 values are looked at."""
    total = seen = 0
    levels: list[Iterator[Any]] = [iter((reply,))]
    while levels:
        for value in levels[-1]:
            seen += 1
            if seen > MOST_VALUES:
                return ReplySize(total, is_least=True)
            if isinstance(value, (str, bytes)):
                total += len(value)
            elif isinstance(value, (int, float)):
                total += len(str(value))
            else:
                inside = _inside(value)
                if inside is not None:
                    levels.append(iter(inside))
                    break
        else:
            levels.pop()
    return ReplySize(total)


def _inside(value: object) -> Iterable[Any] | None:
    if isinstance(value, Mapping):
        return (part for item in value.items() for part in item)
    return value if isinstance(value, (list, tuple, set, frozenset)) else None
