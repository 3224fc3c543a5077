"""The server's time between two of its replies."""

from __future__ import annotations

from typing import Any

import pytest

from pyramid_baseplate_redis.queues.schedules.server_clock import ServerClock

from ..fakes import Clock, ScriptedServer


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def server_clock(*replies: Any) -> tuple[ServerClock, ScriptedServer]:
    server = ScriptedServer(*replies)
    commands: Any = server
    return ServerClock(commands), server


def test_the_time_is_in_milliseconds(clock: Clock) -> None:
    times, server = server_clock([b"1000", b"250000"])
    assert times.now() == 1_000_250
    assert server.asked == [("TIME",)]


def test_it_goes_on_with_the_clock_of_this_machine(clock: Clock) -> None:
    times, _ = server_clock([b"1000", b"0"])
    clock.now = 50.0
    times.now()
    clock.now = 53.5
    assert times.now() == 1_003_500


def test_a_time_of_the_server_becomes_one_of_this_machine(clock: Clock) -> None:
    times, _ = server_clock([b"1000", b"0"])
    clock.now = 50.0
    assert times.monotonic(1_000_500) == 50.5
    assert times.monotonic(999_000) == 49.0


def test_the_reply_is_taken_for_the_middle_of_the_round_trip(clock: Clock) -> None:
    def reply() -> list[bytes]:
        clock.now = 4.0
        return [b"1000", b"0"]

    times, _ = server_clock(reply)
    clock.now = 2.0
    assert times.now() == 1_000_000 + 1000 * (4.0 - 3.0)


def test_it_is_asked_for_again_ten_seconds_after_the_reply(clock: Clock) -> None:
    def reply() -> list[bytes]:
        clock.now = 4.0
        return [b"1000", b"0"]

    times, server = server_clock(reply, [b"2000", b"0"])
    times.now()
    clock.now = 13.9
    times.now()
    assert len(server.asked) == 1
    clock.now = 14.0
    assert times.now() == 2_000_000


def test_asking_for_it_makes_no_span(clock: Clock) -> None:
    times, server = server_clock([b"1000", b"0"])
    times.now()
    assert server.calls == [{"block": 0.0, "is_recorded": False}]


def test_a_failed_connection_lets_it_be_asked_for_once(clock: Clock) -> None:
    times, server = server_clock([b"1000", b"0"], [b"2000", b"0"])
    times.now()
    server.connection_failures += 1
    assert times.now() == 2_000_000
    assert times.now() == 2_000_000
