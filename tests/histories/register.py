"""Decide whether each key of a history behaved as a linearizable register.

A history is linearizable if every call can be given one moment between its beginning and its end,
such that the replies are those of calls made one after the other. The search is that of Wing and
Gong, "Testing and Verifying Concurrent Objects", with Lowe's memory of the states that were
searched ("Testing for linearizability"). Keys are independent, so each is searched alone.

Kinds of calls:

- ``"write"``: the argument is the value, which no other call of the key writes.
- ``"read"``: returned the value, or ``None`` if the key did not exist.
- ``"compare_and_set"``: the argument is the pair of the expected and the new value; returned
  whether it was set. False only says that nothing was set: WATCH also fails if a key was written
  with the value that it had.
- ``"delete"``: returned whether the key existed.

A call with an unknown outcome may take effect at any time after its beginning, or never.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from .recording import Call, History

_NEVER = float("inf")
KINDS = frozenset({"write", "read", "compare_and_set", "delete"})


@dataclass(frozen=True)
class Violation:
    """A key whose calls cannot be explained.

    :param call: the first call, by its end, that has no place after all that ended before it.
    :param open: the calls that were open at its end, and the last ones that ended before.
    """

    key: str
    call: Call
    open: tuple[Call, ...]

    def __str__(self) -> str:
        lines = [f"{self.key} is not linearizable: {self.call}", *map(str, self.open)]
        return "\n    ".join(lines)


def check(history: History | Iterable[Call], initial: Any = None) -> list[Violation]:
    """Return a violation for each key whose calls no order explains.

    :param initial: the value of each key before the first call.
    """
    calls = history.calls if isinstance(history, History) else history
    keys: dict[str, list[Call]] = defaultdict(list)
    for call in calls:
        if call.kind not in KINDS:
            raise ValueError(f"{call}: the register has no such call")
        keys[call.key].append(call)
    found = (_check_key(key, some, initial) for key, some in sorted(keys.items()))
    return [violation for violation in found if violation is not None]


def _check_key(key: str, calls: list[Call], initial: Any) -> Violation | None:
    needed = _Needed(calls)
    relevant = sorted(filter(needed, calls), key=lambda call: call.began)
    stuck = _Search(relevant, initial).run()
    if stuck is None:
        return None
    end = _end(stuck)
    beside = [c for c in relevant if c is not stuck and c.began <= end and _end(c) >= stuck.began]
    before = sorted((c for c in relevant if _end(c) < stuck.began), key=_end)[-3:]
    return Violation(key, stuck, (*before, *beside))


class _Needed:
    """Selects the calls that have to be placed, or that may be needed to explain another one.

    A call with an unknown outcome may never have happened, so it is needed only for a value that
    another call has seen.
    """

    def __init__(self, calls: list[Call]) -> None:
        returned = [call for call in calls if call.outcome == "returned"]
        self._seen = {call.value for call in returned if call.kind == "read"}
        self._seen |= {call.argument[0] for call in calls if call.kind == "compare_and_set"}
        self._any_value = any(call.kind == "delete" and call.value for call in returned)

    def __call__(self, call: Call) -> bool:
        if call.outcome == "failed":
            return False
        if call.outcome == "returned":
            return call.kind != "compare_and_set" or bool(call.value)
        if call.kind in ("read", "delete"):
            return call.kind == "delete"
        written = call.argument if call.kind == "write" else call.argument[1]
        return self._any_value or written in self._seen


def _end(call: Call) -> float:
    return _NEVER if call.outcome == "unknown" or call.ended is None else call.ended


_REFUSED = object()


def _apply(call: Call, state: Any) -> Any:
    """Return the value of the key after a call; ``_REFUSED`` if it cannot have its reply now."""
    known = call.outcome == "returned"
    if call.kind == "write":
        return call.argument
    if call.kind == "read":
        return state if state == call.value else _REFUSED
    if call.kind == "delete":
        return None if not known or bool(call.value) == (state is not None) else _REFUSED
    expected, new = call.argument
    return new if state == expected else _REFUSED


@dataclass(frozen=True)
class _Node:
    """A state of the search: the calls that are placed so far.

    :param first: the first call with a known end, by its beginning, that is not placed.
    :param ahead: those after it that are placed.
    :param taken: the calls with an unknown outcome that are placed.
    """

    state: Any
    first: int
    ahead: frozenset[int]
    taken: frozenset[int]


class _Search:
    """A search for an order of one key's calls, which are sorted by their beginnings."""

    def __init__(self, calls: list[Call], initial: Any) -> None:
        self._known = [call for call in calls if _end(call) != _NEVER]
        self._unknown = [call for call in calls if _end(call) == _NEVER]
        self._initial = initial

    def run(self) -> Call | None:
        """Return ``None`` if there is an order, or the call that the best one has no place for."""
        start = _Node(self._initial, 0, frozenset(), frozenset())
        seen = {start}
        stack = [start]
        stuck: Call | None = None
        while stack:
            node = stack.pop()
            candidates, soonest = self._candidates(node)
            if soonest is None:
                return None
            if stuck is None or _end(soonest) > _end(stuck):
                stuck = soonest
            for following in self._following(node, candidates, soonest):
                if following not in seen:
                    seen.add(following)
                    stack.append(following)
        return stuck

    def _candidates(self, node: _Node) -> tuple[list[int], Call | None]:
        """Return the known calls that may be next, and the one of them that ends first.

        A call may be next if no call that is not placed ended before it began.
        """
        candidates: list[int] = []
        soonest: Call | None = None
        for index in range(node.first, len(self._known)):
            call = self._known[index]
            if soonest is not None and call.began > _end(soonest):
                break
            if index not in node.ahead:
                candidates.append(index)
                if soonest is None or _end(call) < _end(soonest):
                    soonest = call
        return candidates, soonest

    def _following(self, node: _Node, candidates: list[int], soonest: Call) -> list[_Node]:
        """Return the nodes after one more call, the most promising one last."""
        placed = []
        for index in candidates:
            after = _apply(self._known[index], node.state)
            if after is _REFUSED:
                continue
            following = self._placed(node, index, after)
            if after == node.state:
                return [following]  # it changes nothing, so no order is lost if it comes next
            placed.append((_end(self._known[index]), following))
        placed.sort(key=lambda each: each[0], reverse=True)
        return [*self._after_unknown(node, candidates, soonest), *(each[1] for each in placed)]

    def _placed(self, node: _Node, index: int, state: Any) -> _Node:
        first, ahead = node.first, node.ahead | {index}
        while first in ahead:
            ahead -= {first}
            first += 1
        return _Node(state, first, ahead, node.taken)

    def _after_unknown(self, node: _Node, candidates: list[int], soonest: Call) -> list[_Node]:
        """Return the nodes after a call with an unknown outcome.

        It is only placed where the next call needs it: elsewhere it may as well never have
        happened.
        """
        available = [
            index
            for index, call in enumerate(self._unknown)
            if index not in node.taken and call.began <= _end(soonest)
        ]
        waiting = [self._known[index] for index in candidates]
        waiting += [self._unknown[index] for index in available]
        waiting = [call for call in waiting if _apply(call, node.state) is _REFUSED]
        nodes = []
        for index in available:
            after = _apply(self._unknown[index], node.state)
            if after is not _REFUSED and any(
                _apply(call, after) is not _REFUSED for call in waiting
            ):
                taken = node.taken | {index}
                nodes.append(_Node(after, node.first, node.ahead, taken))
        return nodes
