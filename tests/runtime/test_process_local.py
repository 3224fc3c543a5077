"""Objects of which each process has its own."""

from __future__ import annotations

import gc
import weakref

import pytest

from pyramid_baseplate_redis.runtime.process_local import ProcessLocal


class _Made:
    pass


def test_a_process_keeps_its_object() -> None:
    local = ProcessLocal(_Made)

    assert local.own() is local.own()


def test_a_child_gets_an_object_of_its_own_and_drops_its_parents(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    local = ProcessLocal(_Made)
    of_parent = weakref.ref(local.own())

    monkeypatch.setattr("os.getpid", lambda: 1)
    of_child = local.own()
    gc.collect()

    assert of_parent() is None
    assert local.own() is of_child


def test_all_threads_get_the_object_that_was_stored_first() -> None:
    def make() -> _Made:
        if not others:
            others.append(_Made())
            others.append(local.own())  # another thread is faster
        return _Made()

    others: list[_Made] = []
    local = ProcessLocal(make)

    assert local.own() is others[1]
