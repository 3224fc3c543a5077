"""Objects that a request leaves open are closed at its end."""

from __future__ import annotations

import pytest

from pyramid_baseplate_redis.client.open_resources import OpenResources

from ..support.garbage import ALLOCATIONS, collected_after


class Subscriber:
    """An object with a connection."""

    def __init__(self) -> None:
        self.connection: Subscriber | None = self

    def disconnect(self) -> None:
        pass

    def close(self) -> None:
        self.connection = None


@pytest.mark.parametrize("allocations", ALLOCATIONS)
def test_all_are_closed_while_the_garbage_collector_finds_another_one(allocations: int) -> None:
    resources = OpenResources()
    left, dropped = [Subscriber() for _ in range(5)], [Subscriber()]
    for made in (*left[:3], *dropped, *left[3:]):
        resources.add(made)
    dropped[0].connection = None
    del made
    with collected_after(allocations, dropped.clear):
        resources.give_back("foo")
    assert [made.connection for made in left] == [None] * 5
