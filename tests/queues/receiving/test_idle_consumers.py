"""Consumers that were silent for a long time and have nothing pending are removed."""

from __future__ import annotations

from typing import Any

import pytest

from pyramid_baseplate_redis.queues.receiving.idle_consumers import remove_idle_consumers

from ..fakes import ScriptedServer, spec_of

KEY = "{jobs}:messages"
HOUR = 3_600_000
LIST = ("XINFO", "CONSUMERS", KEY, "workers")


def consumer(name: bytes, idle: int, pending: int = 0) -> list[Any]:
    return [b"name", name, b"pending", pending, b"idle", idle]


def remove(consumers: list[Any], *replies: Any, lease: float = 10.0) -> ScriptedServer:
    server = ScriptedServer([consumers], *replies)
    commands: Any = server
    remove_idle_consumers(spec_of(lease=lease), commands)
    return server


def removal_of(name: bytes) -> list[tuple[Any, ...]]:
    return [
        ("XPENDING", KEY, "workers", "-", "+", 1000, name),
        ("XGROUP", "DELCONSUMER", KEY, "workers", name),
    ]


@pytest.mark.parametrize("is_resp3", [True, False], ids=["RESP3", "RESP2"])
def test_a_consumer_is_removed_after_an_hour(is_resp3: bool) -> None:
    found = consumer(b"gone", HOUR)
    row = dict(zip(found[::2], found[1::2], strict=True)) if is_resp3 else found
    server = remove([row], [[], 0])
    assert server.asked == [LIST, *removal_of(b"gone")]
    assert server.calls[1] == {"name": "remove_consumer"}


@pytest.mark.parametrize(
    "row",
    [consumer(b"quiet", HOUR - 1), consumer(b"busy", HOUR, pending=1), consumer(b"first", HOUR)],
    ids=["idle for less than an hour", "with a pending message", "this consumer"],
)
def test_other_consumers_stay(row: list[Any]) -> None:
    assert remove([row]).asked == [LIST]


def test_the_consumers_after_one_that_stays_are_removed_all_the_same() -> None:
    server = remove([consumer(b"first", HOUR), consumer(b"gone", HOUR)], [[], 0])
    assert server.asked == [LIST, *removal_of(b"gone")]


@pytest.mark.parametrize(("idle", "is_removed"), [(9_999_999, False), (10_000_000, True)])
def test_with_a_long_lease_a_consumer_may_be_silent_for_ten_leases(
    idle: int, is_removed: bool
) -> None:
    server = remove([consumer(b"gone", idle)], [[], 0], lease=1000.0)
    assert (len(server.asked) > 1) is is_removed


def test_messages_that_it_received_in_the_meantime_are_claimed_with_an_expired_lease() -> None:
    pending = [[b"1-0", b"gone", 5, 1], [b"2-0", b"gone", 5, 1]]
    server = remove([consumer(b"gone", HOUR)], [pending, 2], [[b"1-0", b"2-0"]])
    claim = ("XCLAIM", KEY, "workers", "first", 0, b"1-0", b"2-0")
    assert server.asked[-1] == (*claim, "IDLE", 10_000, "FORCE", "JUSTID")
