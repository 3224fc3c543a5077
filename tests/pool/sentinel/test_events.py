"""A pool acts on announcements of a switch or promotion, and ignores outdated ones."""

from __future__ import annotations

import contextlib
import logging
import weakref
from typing import Any

import pytest
import redis

from pyramid_baseplate_redis.pool.sentinel import events as announcements_module

from ...support.fake_sentinel import FakeSentinel, manager_of
from ...support.servers import wait_until
from ...support.topologies import SentinelSet
from .conftest import MakeFoo, listeners_at, pool_of


class HearingPool:
    """What the listeners know of a pool."""

    pid = 0
    service_name = "mymaster"

    def __init__(self) -> None:
        self.sentinel_manager = manager_of()
        self.heard: list[Any] = []

    def get_master_address(self) -> None:
        pass

    def switched(self, address: Any) -> None:
        self.heard.append(("switched", address[1]))

    def demoted(self, address: Any) -> None:
        self.heard.append(("demoted", address[1]))


SWITCHED = (b"+switch-master", b"mymaster 10.0.0.1 1 10.0.0.1 2")
PROMOTING = (
    b"+failover-state-send-slaveof-noone",
    b"slave 10.0.0.1:2 10.0.0.1 2 @ mymaster 10.0.0.1 1",
)
PROMOTED = (b"+promoted-slave", PROMOTING[1])
BUSY = "master,failover_in_progress,force_failover"


def heard(announced: tuple[bytes, bytes], **says: Any) -> list[Any]:
    """What a pool makes of an announcement by a Sentinel that says so when it is asked."""
    pool = HearingPool()
    message = {"channel": announced[0], "data": announced[1]}
    reference: Any = weakref.ref(pool)
    sentinel: Any = FakeSentinel(1, **says)
    announcements_module._heard(reference, sentinel, message)
    return pool.heard


def test_a_switch_is_believed() -> None:
    assert heard(SWITCHED, port=2, epoch=1) == [("switched", 2)]


def test_a_switch_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    pool = HearingPool()
    reference: Any = weakref.ref(pool)
    sentinel: Any = FakeSentinel(1, port=2, epoch=1)
    message = {"channel": SWITCHED[0], "data": SWITCHED[1]}

    for _ in range(2):  # each Sentinel announces it
        announcements_module._heard(reference, sentinel, message)

    assert [record.message for record in caplog.records] == [
        "Sentinel: the primary of mymaster is 10.0.0.1:2 now"
    ]
    assert pool.heard == [("switched", 2)]


def test_a_promotion_is_believed_before_the_switch() -> None:
    assert heard(PROMOTED, port=1, epoch=1, flags=BUSY) == [("switched", 2)]


def test_the_beginning_of_a_promotion_demotes() -> None:
    assert heard(PROMOTING) == [("demoted", 1)]


@pytest.mark.parametrize("announced", [SWITCHED, PROMOTED], ids=["a switch", "a promotion"])
def test_an_announcement_that_is_heard_behind_the_next_failover_is_ignored(
    announced: tuple[bytes, bytes],
) -> None:
    # The Sentinel's epoch is the later one's by now.
    assert heard(announced, port=1, epoch=2) == []


@pytest.mark.parametrize("announced", [SWITCHED, PROMOTING, PROMOTED])
def test_announcements_of_another_service_are_ignored(announced: tuple[bytes, bytes]) -> None:
    channel, text = announced
    assert heard((channel, text.replace(b"mymaster", b"other")), port=2) == []


@pytest.mark.parametrize("text", [b"", b"mymaster", b"mymaster a b c d"])
def test_announcements_that_make_no_sense_are_ignored(text: bytes) -> None:
    assert heard((b"+switch-master", text)) == []


def test_a_failover_that_nobody_asks_about_is_heard(
    make_foo: MakeFoo, sentinels: SentinelSet
) -> None:
    foo = make_foo(sentinels)
    foo.ping()
    pool, new = pool_of(foo), sentinels.replica()
    wait_until(lambda: listeners_at(sentinels, pool) == 3)
    sentinels.failover()
    wait_until(lambda: pool.master_address == (new.host, new.port))
    assert pool.stats.open == 0


class _Announcing:
    """A Sentinel that cannot be reached at first, and then announces nothing."""

    def __init__(self, pools: list[HearingPool], errors: list[Exception]) -> None:
        self.timeouts: list[float] = []
        self._pools = pools
        self._errors = errors

    def pubsub(self, **options: Any) -> Any:
        assert options == {"ignore_subscribe_messages": True}
        if self._errors:
            raise self._errors.pop(0)
        return contextlib.nullcontext(self)

    def subscribe(self, *channels: str) -> None:
        assert len(channels) == 3

    def get_message(self, timeout: float) -> None:
        self.timeouts.append(timeout)
        if len(self.timeouts) == 2:
            self._pools.clear()


def test_a_listener_pauses_between_attempts_and_looks_every_second_for_its_pool(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    pools = [HearingPool()]
    reference: Any = weakref.ref(pools[0])
    errors: list[Exception] = [redis.ConnectionError(f"refused {n}") for n in range(20)]
    sentinel: Any = _Announcing(pools, [*errors, ValueError("a bug")])

    pauses = list(announcements_module._listen(reference, sentinel))

    assert len(pauses) == 21
    assert pauses[0] <= 0.2
    assert 0.2 < max(pauses) <= 2
    assert sentinel.timeouts == [1.0, 1.0]
    levels = [record.levelname for record in caplog.records]
    assert levels == ["DEBUG"] * 20 + ["ERROR"]
