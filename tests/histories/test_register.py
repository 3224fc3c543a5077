"""The checker of registers accepts what a register can do, and finds planted violations."""

from __future__ import annotations

import itertools
import time
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from .recording import Call, History
from .register import _REFUSED, _apply, check

UNKNOWN = object()


def call(kind: str, argument: Any, value: Any, began: int, ended: int, process: str = "p") -> Call:
    """Return a call that has returned, or whose outcome is unknown."""
    made = Call(process, "key", kind, argument, began, ended)
    if value is not UNKNOWN:
        made.value, made.outcome = value, "returned"
    return made


def write(value: Any, began: int, ended: int, *, known: bool = True) -> Call:
    return call("write", value, True if known else UNKNOWN, began, ended)


def read(value: Any, began: int, ended: int) -> Call:
    return call("read", None, value, began, ended)


def swap(old: Any, new: Any, done: Any, began: int, ended: int) -> Call:
    return call("compare_and_set", (old, new), done, began, ended)


def delete(existed: Any, began: int, ended: int) -> Call:
    return call("delete", None, existed, began, ended)


VIOLATIONS = {
    "a stale read": [write(1, 0, 1), write(2, 2, 3), read(1, 4, 5)],
    "a lost write": [write(1, 0, 1), read(None, 2, 3)],
    "a value that no client wrote": [write(1, 0, 1), read(3, 2, 3)],
    "a value read before it was written": [read(1, 0, 1), write(1, 2, 3)],
    "a value that comes back": [
        write(1, 0, 1), write(2, 2, 10), read(2, 3, 4), read(1, 5, 6),
    ],
    "readers that saw two writes in different orders": [
        write(1, 0, 10), write(2, 0, 10), read(1, 11, 12), read(2, 13, 14),
    ],
    "a value set on a stale one": [write(1, 0, 1), write(2, 2, 3), swap(1, 3, True, 4, 5)],
    "a value set twice from the same one": [
        write(1, 0, 1), swap(1, 2, True, 2, 5), swap(1, 3, True, 2, 5),
    ],
    "a key that was deleted twice": [write(1, 0, 1), delete(True, 2, 5), delete(True, 2, 5)],
    "a deleted value": [write(1, 0, 1), delete(True, 2, 3), read(1, 4, 5)],
    "an unknown write that takes effect twice": [
        write(1, 0, 1), write(2, 2, 3, known=False), read(2, 4, 5), write(3, 6, 7), read(2, 8, 9),
    ],
    "an unknown write that is undone": [
        write(1, 0, 1), write(2, 2, 3, known=False), read(2, 4, 5), read(1, 6, 7),
    ],
    "an unknown write that was seen before it began": [read(2, 0, 1), write(2, 2, 3, known=False)],
}  # fmt: skip

EXPLAINED = {
    "calls one after the other": [
        write(1, 0, 1), read(1, 2, 3), delete(True, 4, 5), read(None, 6, 7),
    ],
    "a read beside a write may see it": [write(1, 0, 1), write(2, 2, 9), read(2, 3, 4)],
    "a read beside a write may miss it": [write(1, 0, 1), write(2, 2, 9), read(1, 3, 8)],
    "an unknown write that never happened": [
        write(1, 0, 1), write(2, 2, 3, known=False), read(1, 4, 5),
    ],
    "an unknown write that happened late": [
        write(1, 0, 1), write(2, 2, 3, known=False), read(1, 4, 5), write(3, 6, 7), read(2, 8, 9),
    ],
    "an unknown write that a deletion has met": [
        write(1, 0, 1, known=False), delete(True, 2, 3), read(None, 4, 5),
    ],
    "a chain of unknown calls": [
        write(1, 0, 1), swap(1, 2, UNKNOWN, 2, 3), swap(2, 3, UNKNOWN, 4, 5), read(3, 6, 7),
    ],
    "a read without a reply": [write(1, 0, 1), call("read", None, UNKNOWN, 2, 3)],
    "an unknown deletion": [write(1, 0, 1), delete(UNKNOWN, 2, 3), read(None, 4, 5)],
    "a value that was not set": [write(1, 0, 1), swap(1, 2, False, 2, 3), read(1, 4, 5)],
}  # fmt: skip


@pytest.mark.parametrize("calls", VIOLATIONS.values(), ids=VIOLATIONS)
def test_it_is_found(calls: list[Call]) -> None:
    (violation,) = check(calls)
    assert violation.call in calls
    assert str(violation).startswith("key is not linearizable: p: ")


@pytest.mark.parametrize("calls", EXPLAINED.values(), ids=EXPLAINED)
def test_it_is_explained(calls: list[Call]) -> None:
    assert check(calls) == []


def test_a_call_that_has_failed_did_not_happen() -> None:
    history = History()
    history.call("p", "key", "write", 1).failed(ConnectionRefusedError(), definite=True)
    history.call("p", "key", "read").returned(1)
    assert len(check(history)) == 1


def test_a_call_that_never_ended_may_have_happened() -> None:
    history = History()
    history.call("p", "key", "write", 1)
    history.call("p", "key", "read").returned(1)
    assert check(history) == []


def test_keys_are_independent() -> None:
    history = History()
    history.call("p", "first", "write", 1).returned(True)
    history.call("p", "second", "read").returned(1)
    history.call("p", "third", "read").returned(None)
    assert [violation.key for violation in check(history)] == ["second"]


def test_an_unknown_kind_is_an_error() -> None:
    with pytest.raises(ValueError, match="the register has no such call"):
        check([call("append", 1, 1, 0, 1)])


def explained_by_brute_force(calls: Sequence[Call]) -> bool:
    """Try every order of every choice of the calls with an unknown outcome."""
    returned = [each for each in calls if each.outcome == "returned"]
    known = [each for each in returned if each.kind != "compare_and_set" or each.value]
    unknown = [each for each in calls if each.outcome == "unknown"]
    for number in range(len(unknown) + 1):
        for chosen in itertools.combinations(unknown, number):
            if any(map(_is_an_order, itertools.permutations([*known, *chosen]))):
                return True
    return False


def _is_an_order(calls: Sequence[Call]) -> bool:
    state: Any = None
    for index, each in enumerate(calls):
        later = calls[index + 1 :]
        if any(o.outcome == "returned" and (o.ended or 0) < each.began for o in later):
            return False
        state = _apply(each, state)
        if state is _REFUSED:
            return False
    return True


@st.composite
def some_calls(draw: st.DrawFn) -> list[Call]:
    """A few calls with any replies: some histories of them can be explained."""
    calls = []
    for number in range(draw(st.integers(1, 5))):
        began = draw(st.integers(0, 8))
        ended = began + draw(st.integers(1, 4))
        value = st.sampled_from([None, 0, 1, 2])
        kind = draw(st.sampled_from(["write", "read", "compare_and_set", "delete"]))
        known = draw(st.booleans()) or draw(st.booleans())
        done = draw(st.booleans()) if known else UNKNOWN
        if kind == "write":
            calls.append(write(number, began, ended, known=known))
        elif kind == "read":
            calls.append(read(draw(value), began, ended))
        elif kind == "delete":
            calls.append(delete(done, began, ended))
        else:
            calls.append(swap(draw(value), number, done, began, ended))
    return calls


@given(some_calls())
def test_it_agrees_with_a_search_of_all_orders(calls: list[Call]) -> None:
    assert (check(calls) == []) == explained_by_brute_force(calls)


@st.composite
def real_histories(draw: st.DrawFn) -> list[Call]:
    """Calls of a real register, each with a moment, and times around it that overlap."""
    calls, state = [], None
    for number in range(draw(st.integers(1, 60))):
        moment = 100 * number
        began, ended = moment - draw(st.integers(0, 400)), moment + draw(st.integers(0, 400))
        kind = draw(st.sampled_from(["write", "read", "read", "compare_and_set", "delete"]))
        known = draw(st.integers(0, 5)) > 0
        if kind == "write":
            calls.append(write(number, began, ended, known=known))
            state = number
        elif kind == "read":
            calls.append(read(state, began, ended))
        elif kind == "delete":
            calls.append(delete(state is not None if known else UNKNOWN, began, ended))
            state = None
        else:
            calls.append(swap(state, number, True if known else UNKNOWN, began, ended))
            state = number
    return calls


@given(real_histories())
def test_what_a_register_did_is_explained(calls: list[Call]) -> None:
    assert check(calls) == []


def test_thousands_of_calls_of_one_key_are_checked_in_seconds() -> None:
    calls, state = [], None
    for number in range(3000):
        moment = 10 * number
        if number % 3 == 0:
            known = number % 60 != 0
            calls.append(write(number, moment - 60, moment + 60, known=known))
            state = number
        else:
            calls.append(read(state, moment - 60, moment + 60))
    began = time.thread_time()
    assert check(calls) == []
    assert time.thread_time() - began < 10
    calls.append(read(calls[3].argument, 10**6, 10**6 + 1))
    assert len(check(calls)) == 1
