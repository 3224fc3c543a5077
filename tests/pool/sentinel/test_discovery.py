"""Sentinels are asked for the primary at the same time, and outdated answers are ignored."""

from __future__ import annotations

import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
import redis
from redis.sentinel import MasterNotFoundError

from pyramid_baseplate_redis import is_retryable
from pyramid_baseplate_redis.pool.sentinel import discovery

from ...faults.helpers import in_threads
from ...support.fake_sentinel import FakeSentinel, found, manager_of
from ...support.topologies import SentinelSet
from .conftest import NOWHERE, SECRETS, MakeFoo, error_of, pool_of, told

# Who is asked, and what is said when nobody knows


def test_an_unknown_service_is_an_error_that_names_the_sentinels(
    valkeys: SentinelSet, make_foo: MakeFoo
) -> None:
    error = error_of(make_foo(valkeys.url.replace("mymaster", "other")).ping)
    addresses = ", ".join(sorted(valkeys.addresses.split(",")))
    assert str(error) == (
        f"foo: No master found for 'other' (asked Sentinels {addresses} for other)"
    )
    assert isinstance(error, redis.ConnectionError)
    assert is_retryable(error) is True


def test_sentinels_that_cannot_be_reached_are_an_error_that_says_why(make_foo: MakeFoo) -> None:
    url = NOWHERE.replace("//", f"//user:{SECRETS[0]}@")
    error = error_of(make_foo(url, sentinel_password=SECRETS[1]).ping)
    refused = "ConnectionError: Error 111 connecting to 127.0.0.1:{0}. Connection refused."
    assert str(error) == (
        f"foo: No master found for 'mymaster' : 127.0.0.1:1 - {refused.format(1)}, 127.0.0.1:2 - "
        f"{refused.format(2)} (asked Sentinels 127.0.0.1:1, 127.0.0.1:2 for mymaster)"
    )
    assert is_retryable(error) is True
    assert not [secret for secret in SECRETS if secret in told(error)]


def test_a_server_that_is_no_sentinel_is_skipped(valkeys: SentinelSet, make_foo: MakeFoo) -> None:
    addresses = f"{valkeys.replica().address},{valkeys.sentinels[0].address}"
    assert make_foo(f"redis+sentinel://{addresses}/mymaster").ping()


def test_a_sentinel_that_is_down_is_skipped(valkeys: SentinelSet, make_foo: MakeFoo) -> None:
    addresses = f"127.0.0.1:1,{valkeys.sentinels[0].address}"
    assert make_foo(f"redis+sentinel://{addresses}/mymaster").ping()


@pytest.fixture
def silent() -> Iterator[Callable[[], int]]:
    """Ports where connections are accepted and nothing is answered, as by a frozen process."""
    with ExitStack() as stack:

        def start() -> int:
            listening = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
            port: int = listening.getsockname()[1]
            return port

        yield start


def test_frozen_sentinels_take_no_longer_than_one_server(
    silent: Callable[[], int], make_foo: MakeFoo
) -> None:
    hosts = ",".join(f"127.0.0.1:{silent()}" for _ in range(3))
    foo = make_foo(
        f"redis+sentinel://{hosts}/mymaster",
        socket_connect_timeout="300 milliseconds",
        socket_timeout="600 milliseconds",
    )
    started = time.monotonic()
    error = error_of(foo.ping)
    assert time.monotonic() - started < 1.2
    assert str(error).count("TimeoutError") == 3


def test_many_callers_do_not_queue_up_for_a_frozen_sentinel(
    valkeys: SentinelSet, silent: Callable[[], int], make_foo: MakeFoo
) -> None:
    hosts = f"127.0.0.1:{silent()},{valkeys.sentinels[0].address}"
    foo = make_foo(
        f"redis+sentinel://{hosts}/mymaster",
        socket_connect_timeout="400 milliseconds",
        socket_timeout="1 second",
    )
    ends: list[float] = []
    started = time.monotonic()

    def call() -> None:
        foo.ping()
        ends.append(time.monotonic() - started)

    threads = [threading.Thread(target=call) for _ in range(40)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(ends) == 40
    assert max(ends) < 2.5


def test_whom_it_found_alive_is_asked_first_the_next_time(
    valkeys: SentinelSet, make_foo: MakeFoo
) -> None:
    foo = make_foo(f"redis+sentinel://127.0.0.1:1,{valkeys.addresses}/mymaster")
    foo.ping()
    first = pool_of(foo).sentinel_manager.sentinels[0]
    assert first.connection_pool.connection_kwargs["port"] != 1
    assert len(pool_of(foo).sentinel_manager.sentinels) == 4


@pytest.mark.parametrize(("others", "is_enough"), [("2", True), ("3", False)])
def test_a_sentinel_that_sees_too_few_others_is_not_believed(
    valkeys: SentinelSet, make_foo: MakeFoo, others: str, is_enough: bool
) -> None:
    foo = make_foo(valkeys, min_other_sentinels=others)
    if is_enough:
        assert foo.ping()
    else:
        assert isinstance(error_of(foo.ping), MasterNotFoundError)


# What is believed


def test_a_sentinel_that_is_behind_is_not_believed() -> None:
    late, current = FakeSentinel(1, port=1, epoch=3), FakeSentinel(2, port=2, epoch=4)
    manager = manager_of(late, current)
    assert found(manager) == 1
    late.says = redis.ConnectionError("gone")
    assert found(manager) == 2
    late.says = {"port": 1, "epoch": 3}
    manager.sentinels.sort(key=lambda client: client is current)  # the late one is asked first
    assert found(manager) == 2
    assert late.asked == 3


def test_a_sentinel_that_is_behind_an_announcement_is_not_believed() -> None:
    manager = manager_of(FakeSentinel(1, port=1, epoch=3))
    assert manager.learn(4, ("10.0.0.1", 2))
    assert found(manager) is None


def test_an_old_announcement_is_no_news() -> None:
    manager = manager_of()
    assert manager.learn(4, ("10.0.0.1", 2))
    assert not manager.learn(3, ("10.0.0.1", 1))


def test_the_same_announcement_of_another_sentinel_is_no_news() -> None:
    manager = manager_of()
    assert manager.learn(4, ("10.0.0.1", 2))
    assert not manager.learn(4, ("10.0.0.1", 2))


def test_an_announcement_is_news_although_the_epoch_was_seen() -> None:
    manager = manager_of(FakeSentinel(1, port=1, epoch=4))
    found(manager)
    assert manager.learn(4, ("10.0.0.1", 2))


def test_a_primary_that_is_about_to_be_demoted_is_not_believed_in() -> None:
    manager = manager_of(FakeSentinel(1, port=1))
    manager.distrust(("10.0.0.1", 1))
    assert found(manager) is None


def test_doubt_ends_after_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(discovery, "_LONGEST_DISTRUST", 0.05)
    manager = manager_of(FakeSentinel(1, port=1))
    manager.distrust(("10.0.0.1", 1))
    time.sleep(0.06)
    assert found(manager) == 1


def test_doubt_ends_when_the_switch_is_known() -> None:
    sentinel = FakeSentinel(1, port=2, epoch=2)
    manager = manager_of(sentinel)
    manager.distrust(("10.0.0.1", 1))
    manager.learn(1, ("10.0.0.1", 2))
    sentinel.says = {"port": 1, "epoch": 2}  # back again
    assert found(manager) == 1


def test_whom_a_sentinel_promotes_is_known_before_it_names_him() -> None:
    promoting = FakeSentinel(1, port=1, epoch=4, flags="master,failover_in_progress")
    manager = manager_of(promoting, FakeSentinel(2, port=1, epoch=3))
    manager.learn(4, ("10.0.0.1", 2))
    assert found(manager) == 2


def test_the_announced_primary_is_not_used_if_no_failover_is_in_progress() -> None:
    manager = manager_of(FakeSentinel(1, port=1, epoch=4))
    manager.learn(4, ("10.0.0.1", 2))
    assert found(manager) is None


@pytest.mark.parametrize("news", ["a switch", "a doubt"])
def test_an_answer_that_was_overtaken_by_an_announcement_is_not_used(news: str) -> None:
    def answer_late() -> dict[str, Any]:
        if news == "a switch":
            manager.learn(4, ("10.0.0.1", 2))
        else:
            manager.distrust(("10.0.0.1", 1))
        return {"port": 1, "epoch": 3}

    late = FakeSentinel(1)
    late.says = answer_late
    manager = manager_of(late)
    assert found(manager) is None


def test_sentinels_that_were_set_up_anew_are_believed_after_a_while(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(discovery, "_LONGEST_LAG", 0.05)
    manager = manager_of(FakeSentinel(1, port=2), FakeSentinel(2, port=2), FakeSentinel(3, port=2))
    manager.learn(7, ("10.0.0.1", 1))
    assert found(manager) is None
    time.sleep(0.06)
    assert found(manager) == 2


def test_few_sentinels_that_are_behind_are_never_believed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(discovery, "_LONGEST_LAG", 0.0)
    cut_off = redis.ConnectionError("cut off")
    others = [FakeSentinel(2), FakeSentinel(3)]
    for other in others:
        other.says = cut_off
    manager = manager_of(FakeSentinel(1, port=1), *others)
    manager.learn(7, ("10.0.0.1", 2))
    for _ in range(3):
        assert found(manager) is None


@pytest.mark.parametrize(
    ("behind", "sentinels", "believed"),
    [(2, 3, True), (1, 2, False), (2, 4, False), (2, 5, False), (3, 5, True)],
)
def test_most_sentinels_have_to_be_behind(
    monkeypatch: pytest.MonkeyPatch, behind: int, sentinels: int, believed: bool
) -> None:
    monkeypatch.setattr(discovery, "_LONGEST_LAG", 0.0)
    all_of_them = [FakeSentinel(number, port=1) for number in range(sentinels)]
    for cut_off in all_of_them[behind:]:
        cut_off.says = redis.ConnectionError("cut off")
    manager = manager_of(*all_of_them)
    manager.learn(7, ("10.0.0.1", 2))

    assert [found(manager) for _ in range(3)] == [None, *([1, 1] if believed else [None, None])]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """The clock of the discovery; it stands still unless a test sets it."""
    made = SimpleNamespace(now=1000.0)
    monkeypatch.setattr(discovery, "time", SimpleNamespace(monotonic=lambda: made.now))
    return made


def test_doubt_lasts_for_five_seconds(clock: SimpleNamespace) -> None:
    manager = manager_of(FakeSentinel(1, port=1))
    manager.distrust(("10.0.0.1", 1))
    clock.now += 4.9
    assert found(manager) is None
    clock.now += 0.2
    assert found(manager) == 1


def test_sentinels_that_are_behind_for_ten_seconds_are_believed(clock: SimpleNamespace) -> None:
    manager = manager_of(FakeSentinel(1, port=2))
    manager.learn(7, ("10.0.0.1", 1))
    assert found(manager) is None
    clock.now += 9.9
    assert found(manager) is None
    clock.now += 0.2
    assert found(manager) == 2


def test_sentinels_that_agree_in_between_have_as_long_again(clock: SimpleNamespace) -> None:
    sentinel = FakeSentinel(1, port=2)
    manager = manager_of(sentinel)
    manager.learn(7, ("10.0.0.1", 1))
    found(manager)
    sentinel.says = {"port": 1, "epoch": 7}
    assert found(manager) == 1
    clock.now += 11
    sentinel.says = {"port": 2}
    assert found(manager) is None


def test_a_new_set_of_sentinels_begins_with_the_first_epoch() -> None:
    assert found(manager_of(FakeSentinel(1, port=1, epoch=0))) == 1


def test_a_sentinel_that_reports_no_epoch_is_at_the_first_one() -> None:
    without, at_the_first = FakeSentinel(1, port=1), FakeSentinel(2, port=2, epoch=0)
    report = without.sentinel_masters

    def without_epoch() -> Any:
        reported = report()
        del reported["mymaster"]["config-epoch"]
        return reported

    without.sentinel_masters = without_epoch  # type: ignore[method-assign]
    manager = manager_of(without)
    for sentinel, port in ((without, 1), (at_the_first, 2), (without, 1)):
        manager.sentinels = [sentinel]
        assert found(manager) == port


def test_a_single_sentinel_is_enough_by_default() -> None:
    assert found(manager_of(FakeSentinel(1, others=0))) == 1


@pytest.mark.parametrize("flags", ["s_down,master", "o_down,master"])
def test_a_primary_that_is_down_is_not_connected_to(flags: str) -> None:
    assert found(manager_of(FakeSentinel(1, flags=flags))) is None


def test_discoveries_at_once_lose_no_sentinel() -> None:
    sentinels = [FakeSentinel(number) for number in range(6)]
    for sentinel in sentinels:  # each fails now and then: another one comes first
        sentinel.says = partial(sometimes, sentinel)
    manager = manager_of(*sentinels)
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        in_threads(*[lambda: [found(manager) for _ in range(300)]] * 6)
    finally:
        sys.setswitchinterval(interval)
    assert set(map(id, manager.sentinels)) == set(map(id, sentinels))


def sometimes(sentinel: FakeSentinel) -> Any:
    return redis.ConnectionError("gone") if sentinel.asked % 3 == 0 else {}


def test_an_open_circuit_breaker_lets_requests_through_to_the_new_primary(
    make_foo: MakeFoo, valkeys: SentinelSet
) -> None:
    foo = make_foo(valkeys, breaker_failures="1", breaker_reset="1 minute")
    foo.ping()
    pool = pool_of(foo)
    pool.breaker.failed(redis.ConnectionError("the old primary is gone"))
    pool.switched((valkeys.primary().host, valkeys.primary().port))
    assert foo.ping()
