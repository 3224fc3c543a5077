"""When the group's pending entries are searched for expired leases, and for which."""

from __future__ import annotations

from typing import Any

import pytest
import redis

from pyramid_baseplate_redis.queues.receiving.due import ExpiredLeases

from ..fakes import Clock, ScriptedServer, spec_of

NOBODY: frozenset[bytes] = frozenset()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def pending(number: int, idle: int, delivered: int = 1) -> list[Any]:
    """Return a row of XPENDING."""
    return [b"%d-0" % number, b"another", idle, delivered]


def search(*replies: Any, lease: float = 10.0) -> tuple[ExpiredLeases, ScriptedServer]:
    """Return the search of a queue whose server has these replies."""
    server = ScriptedServer(*replies)
    commands: Any = server
    return ExpiredLeases(spec_of(lease=lease), commands), server


def command(idle: int) -> tuple[Any, ...]:
    return ("XPENDING", "{jobs}:messages", "workers", "IDLE", idle, "-", "+", 100)


def test_the_first_search_is_due_at_once(clock: Clock) -> None:
    leases, _ = search()
    assert leases.is_due()


def test_the_server_is_asked_for_leases_in_their_second_half(clock: Clock) -> None:
    leases, server = search([])
    assert leases.next(NOBODY) is None
    assert server.asked == [command(5000)]


def test_a_search_makes_no_span(clock: Clock) -> None:
    leases, server = search([])
    leases.next(NOBODY)
    assert server.calls == [{"block": 0.0, "is_recorded": False}]


def test_without_a_lease_in_its_second_half_the_next_search_is_half_a_lease_later(
    clock: Clock,
) -> None:
    leases, server = search([], [])
    leases.next(NOBODY)
    assert leases.search_at == 5.0
    clock.now = 4.99
    assert not leases.is_due()
    assert leases.next(NOBODY) is None
    assert len(server.asked) == 1
    clock.now = 5.0
    assert leases.is_due()
    leases.next(NOBODY)
    assert len(server.asked) == 2


def test_the_next_search_is_when_the_oldest_lease_expires(clock: Clock) -> None:
    leases, _ = search([pending(1, 6000), pending(2, 9000), pending(3, 7000)])
    clock.now = 100.0
    assert leases.next(NOBODY) is None
    assert leases.search_at == 101.0


def test_a_lease_has_expired_as_soon_as_it_has_lasted(clock: Clock) -> None:
    leases, _ = search([pending(1, 9999), pending(2, 10_000, 2), pending(3, 10_001, 7)])
    assert leases.next(NOBODY) == (b"2-0", 2)
    assert leases.next(NOBODY) == (b"3-0", 7)
    assert leases.next(NOBODY) is None
    assert leases.search_at == 0.001


def test_what_was_found_is_due_before_the_next_search(clock: Clock) -> None:
    leases, _ = search([pending(1, 10_000), pending(2, 10_000)])
    leases.next(NOBODY)
    clock.now = 4.9
    assert leases.is_due()
    assert leases.next(NOBODY) == (b"2-0", 1)
    assert not leases.is_due()


def test_what_was_found_is_forgotten_after_half_a_lease(clock: Clock) -> None:
    """Another consumer may have claimed it, and its new lease may last."""
    leases, server = search([pending(1, 10_000), pending(2, 10_000)], [])
    leases.next(NOBODY)
    leases.search_at = 99.0
    clock.now = 5.0
    assert not leases.is_due()
    assert leases.next(NOBODY) is None
    assert len(server.asked) == 1


def test_messages_that_this_process_holds_are_left_out(clock: Clock) -> None:
    leases, _ = search([pending(1, 10_000), pending(2, 10_000)])
    assert leases.next({b"1-0"}) == (b"2-0", 1)


def test_a_page_of_leases_is_searched_again_for_expired_ones_only(clock: Clock) -> None:
    alive = [pending(number, 6000) for number in range(100)]
    leases, server = search(alive, [pending(101, 10_000)])
    assert leases.next(NOBODY) == (b"101-0", 1)
    assert server.asked == [command(5000), command(10_000)]
    assert leases.search_at == 1.0


def test_less_than_a_page_of_leases_is_not_searched_again(clock: Clock) -> None:
    leases, server = search([pending(number, 6000) for number in range(99)])
    assert leases.next(NOBODY) is None
    assert len(server.asked) == 1
    assert leases.search_at == 4.0


def test_a_page_of_expired_leases_is_followed_by_the_next_page(clock: Clock) -> None:
    page = [pending(number, 10_000) for number in range(100)]
    leases, server = search(page, page, [])
    clock.now = 7.0
    assert [leases.next(NOBODY) for _ in page] == [(b"%d-0" % number, 1) for number in range(100)]
    assert len(server.asked) == 2
    assert leases.search_at == 7.0
    assert leases.next(NOBODY) is None
    assert len(server.asked) == 3


def test_almost_a_page_of_expired_leases_is_not_followed_by_a_search(clock: Clock) -> None:
    page = [pending(number, 10_000) for number in range(100)]
    leases, _ = search(page, page[:99])
    leases.next(NOBODY)
    assert leases.search_at == 1.0


@pytest.mark.parametrize(("lease", "pause"), [(10.0, 1.0), (1.0, 0.5)])
def test_a_process_that_holds_a_whole_page_searches_after_a_pause(
    clock: Clock, lease: float, pause: float
) -> None:
    page = [pending(number, 10_000) for number in range(100)]
    leases, _ = search(page, page, lease=lease)
    clock.now = 3.0
    assert leases.next({row[0] for row in page}) is None
    assert leases.search_at == 3.0 + pause


def test_a_search_of_many_short_leases_is_repeated_within_half_a_lease(clock: Clock) -> None:
    alive = [pending(number, 600) for number in range(100)]
    leases, _ = search(alive, [], lease=1.0)
    leases.next(NOBODY)
    assert leases.search_at == 0.5


def test_while_a_thread_searches_no_other_one_does(clock: Clock) -> None:
    seen: list[bool] = []

    def reply() -> list[Any]:
        seen.append(leases.is_due())
        return []

    leases, _ = search(reply)
    leases.next(NOBODY)
    assert seen == [False]


def test_a_search_that_failed_is_due_again_at_once(clock: Clock) -> None:
    leases, server = search(redis.ConnectionError("gone"), [])
    with pytest.raises(redis.ConnectionError):
        leases.next(NOBODY)
    assert leases.is_due()
    leases.next(NOBODY)
    assert len(server.asked) == 2


def test_numbers_of_a_proxy_that_sends_text_are_read(clock: Clock) -> None:
    leases, _ = search([[b"1-0", b"another", b"10000", b"2"]])
    assert leases.next(NOBODY) == (b"1-0", 2)
