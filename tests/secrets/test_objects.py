"""Texts, copies and pickles of a client's objects have no password."""

from __future__ import annotations

import copy
import dataclasses
import pickle
from typing import Any

import pytest

from .clients import connected, objects_of
from .search import assert_hidden, found_in
from .ways_in import ENCODED, WAYS, Give

NOWHERE = "127.0.0.1:1"


def pickled(thing: Any) -> str:
    """Return what a pickle contains, or the error of an object that has none."""
    try:
        return pickle.dumps(thing).decode("utf-8", "replace")
    except Exception as error:
        return repr(error)


def copied(thing: Any) -> str:
    texts = []
    for make in (copy.copy, copy.deepcopy):
        try:
            texts.append(repr(make(thing)))
        except Exception as error:
            texts.append(repr(error))
    return "\n".join(texts)


@pytest.mark.parametrize("way", WAYS)
def test_no_object_shows_the_password(way: str, given: Give) -> None:
    with connected(given(way, NOWHERE)) as factory:
        for thing in objects_of(factory):
            assert_hidden(f"{thing!r} {thing!s} {thing:} {copied(thing)} {pickled(thing)}")
            if dataclasses.is_dataclass(thing) and not isinstance(thing, type):
                assert_hidden(repr(dataclasses.asdict(thing)))


def test_a_pickle_of_a_password_is_noticed() -> None:
    assert found_in(pickled({"url": ENCODED}))
