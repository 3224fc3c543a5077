"""A pool acts on announcements of a switch or promotion, and ignores outdated ones."""

from __future__ import annotations

import contextlib
import logging
import weakref
from types import SimpleNamespace
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
        self.finds_none = False

    def get_master_address(self) -> None:
        self.heard.append("asked")
        if self.finds_none:
            raise redis.ConnectionError("no Sentinel answers")

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


def heard(announced: tuple[Any, Any], **says: Any) -> list[Any]:
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


def test_the_old_primary_is_not_trusted_from_the_beginning_of_a_promotion_on() -> None:
    pool = HearingPool()
    reference: Any = weakref.ref(pool)
    sentinel: Any = FakeSentinel(1)
    message = {"channel": PROMOTING[0], "data": PROMOTING[1]}
    announcements_module._heard(reference, sentinel, message)

    assert not pool.sentinel_manager.believes(("10.0.0.1", 1))
    assert pool.sentinel_manager.believes(("10.0.0.1", 2))


@pytest.mark.parametrize("announced", [SWITCHED, PROMOTED], ids=["a switch", "a promotion"])
def test_an_announcement_that_is_heard_after_the_next_failover_is_ignored(
    announced: tuple[bytes, bytes],
) -> None:
    # The Sentinel's epoch is the later one's by now.
    assert heard(announced, port=1, epoch=2) == []


def test_a_switch_to_a_primary_that_the_sentinel_does_not_report_yet_is_ignored() -> None:
    assert heard(SWITCHED, port=1, epoch=1, flags=BUSY) == []


def test_a_promotion_that_another_failover_has_overtaken_is_ignored() -> None:
    assert heard(PROMOTED, port=3, epoch=1, flags=BUSY) == []


def test_an_announcement_of_a_sentinel_that_forgets_the_service_is_ignored() -> None:
    pool = HearingPool()
    reference: Any = weakref.ref(pool)
    sentinel: Any = SimpleNamespace(sentinel_masters=dict)
    announcements_module._heard(reference, sentinel, {"channel": SWITCHED[0], "data": SWITCHED[1]})

    assert pool.heard == []


def test_an_announcement_may_be_text() -> None:
    channel, data = (each.decode() for each in SWITCHED)
    assert heard((channel, data), port=2, epoch=1) == [("switched", 2)]


def test_the_epoch_of_an_old_sentinel_is_the_first_one() -> None:
    pool = HearingPool()
    reference: Any = weakref.ref(pool)
    sentinel: Any = FakeSentinel(1, port=2)
    reported = sentinel.sentinel_masters()
    del reported["mymaster"]["config-epoch"]
    sentinel.sentinel_masters = lambda: reported
    announcements_module._heard(reference, sentinel, {"channel": SWITCHED[0], "data": SWITCHED[1]})

    assert pool.heard == [("switched", 2)]
    assert pool.sentinel_manager.learn(1, ("10.0.0.1", 3))


@pytest.mark.parametrize("announced", [SWITCHED, PROMOTING, PROMOTED])
def test_announcements_of_another_service_are_ignored(announced: tuple[bytes, bytes]) -> None:
    channel, text = announced
    assert heard((channel, text.replace(b"mymaster", b"other")), port=2) == []


@pytest.mark.parametrize("text", [b"", b"mymaster", b"mymaster a b c d"])
def test_announcements_that_make_no_sense_are_ignored(text: bytes) -> None:
    assert heard((b"+switch-master", text)) == []


def test_a_failover_is_heard_although_no_caller_asks(
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
    assert max(pauses) == 2
    assert sentinel.timeouts == [1.0, 1.0]
    levels = [record.levelname for record in caplog.records]
    assert levels == ["DEBUG"] * 20 + ["ERROR"]


def test_a_listener_that_was_heard_begins_with_a_short_pause_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Backoff:
        def __init__(self, **options: float) -> None:
            pass

        def compute(self, failures: int) -> float:
            return failures

    class LosesItsConnection(_Announcing):
        def get_message(self, timeout: float) -> None:
            super().get_message(timeout)
            raise redis.ConnectionError("lost")

    monkeypatch.setattr(announcements_module, "ExponentialWithJitterBackoff", Backoff)
    pools = [HearingPool()]
    reference: Any = weakref.ref(pools[0])
    errors: list[Exception] = [redis.ConnectionError("refused")] * 2
    sentinel: Any = LosesItsConnection(pools, errors)

    assert list(announcements_module._listen(reference, sentinel)) == [1, 2, 1, 1]


@pytest.mark.parametrize("finds_none", [False, True])
def test_a_listener_asks_for_what_was_announced_before(finds_none: bool) -> None:
    pools = [HearingPool()]
    pools[0].finds_none, asked = finds_none, pools[0].heard
    reference: Any = weakref.ref(pools[0])
    sentinel: Any = _Announcing(pools, [])

    assert list(announcements_module._listen(reference, sentinel)) == []
    assert asked == ["asked"]
