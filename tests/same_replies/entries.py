"""The rows of the tables: one call of a client's method each, and what it needs beforehand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

# Makes what a call needs, with redis-py's own client of the server or the Cluster.
Given = Callable[[Any], object]

FIRST = "{k}first"
"""The key of what surrounds the call in a pipeline."""


def nothing(plain: Any) -> None:
    """Need nothing."""


def _unchanged(result: Any) -> Any:
    return result


@dataclass(frozen=True)
class Entry:
    """A call to compare. Its name is what one would write."""

    name: str
    run: Callable[[Any], Any]
    given: Given = nothing
    normalized: Callable[[Any], Any] = _unchanged

    def after(self, given: Given) -> Entry:
        """Prepare the server with ``given`` first."""
        return replace(self, given=given)

    def by(self, normalized: Callable[[Any], Any]) -> Entry:
        """Compare what ``normalized`` makes of the result: for values that differ by nature."""
        return replace(self, normalized=normalized)


@dataclass(frozen=True)
class Group:
    """Entries that start from the same keys."""

    name: str
    keys: Given
    """Queues what makes the keys on a pipeline, which empties the server first."""
    entries: list[Entry] = field(repr=False)
    given: Given = nothing
    """Prepares what isn't a key."""
    in_pipelines: bool = True
    spoils_connections: bool = False
    """Whether a call changes the state of its connection, so that each needs clients of its own."""

    def __str__(self) -> str:
        return self.name


class _Calls:
    """``call.get("key")`` is the entry that calls a client's ``get("key")``."""

    def __getattr__(self, method: str) -> Callable[..., Entry]:
        def entry(*args: Any, **kwargs: Any) -> Entry:
            written = [_written(value) for value in args]
            written += [f"{name}={_written(value)}" for name, value in kwargs.items()]
            return Entry(
                f"{method}({', '.join(written)})",
                lambda client: getattr(client, method)(*args, **kwargs),
            )

        return entry


call = _Calls()


def _written(value: Any) -> str:
    return value.__name__ if callable(value) else repr(value)
