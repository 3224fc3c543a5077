"""The time that each suggestion would save, of recordings whose times are known."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from pyramid_baseplate_redis.debugtoolbar.advice import Advice, advice
from pyramid_baseplate_redis.debugtoolbar.records import RecordedOperation, ReplySize
from pyramid_baseplate_redis.runtime.call_stack import CallingLine

from .operations import in_turn, recorded, recording_of

LARGE = ReplySize(200_000)


def saved(
    operations: Iterable[RecordedOperation],
    mark: str,
    left_out: Iterable[RecordedOperation] = (),
) -> tuple[float, str]:
    """The seconds and the explanation of the only suggestion with a mark."""
    (found,) = [
        each for each in advice(recording_of(operations, left_out=left_out)) if each.mark == mark
    ]
    assert found.saving is not None
    return found.saving.seconds, found.saving.basis


class TestManyOperations:
    def test_all_round_trips_but_one_at_the_median(self) -> None:
        seconds, basis = saved(in_turn(*[0.002] * 11, 0.050), "many")

        assert seconds == pytest.approx(0.022)
        assert basis == "11 of 12 round trips at the median of 2.0 ms"

    def test_no_more_than_they_took(self) -> None:
        seconds, basis = saved(in_turn(0.001, 0.001, 0.010, 0.010, 0.010), "many")

        assert seconds == pytest.approx(0.032 - 0.010)
        assert basis == (
            "4 of 5 round trips at the median of 10.0 ms, but not more than they took together"
        )

    def test_time_that_threads_share_counts_once(self) -> None:
        overlapping = [recorded(f"GET {number}", duration=0.002) for number in range(12)]

        seconds, _ = saved(overlapping, "many")

        assert seconds == pytest.approx(0.0)

    def test_wait_for_a_connection_does_not_count(self) -> None:
        seconds, _ = saved(in_turn(*[0.003] * 5, waited=0.002), "many")

        assert seconds == pytest.approx(4 * 0.001)

    def test_operations_that_were_not_kept_count(self) -> None:
        seconds, basis = saved(in_turn(*[0.002] * 2), "many", left_out=in_turn(*[0.002] * 10))

        assert seconds == pytest.approx(0.022)
        assert basis.startswith("11 of 12 round trips")

    def test_operations_that_were_not_kept_save_no_more_than_they_took(self) -> None:
        seconds, _ = saved(in_turn(0.002), "many", left_out=in_turn(*[0.001] * 10))

        assert seconds == pytest.approx(0.012 - 0.002)

    def test_none_was_kept(self) -> None:
        others = in_turn(0.001, command="INCR")

        seconds, _ = saved(others, "many", left_out=in_turn(*[0.002] * 12))

        assert seconds == pytest.approx(0.022)


class TestSlowOperation:
    def test_time_beyond_the_fastest_operation(self) -> None:
        operations = [recorded("GET a", duration=0.002), recorded("KEYS *", duration=0.150)]

        assert saved(operations, "slow") == (
            pytest.approx(0.148),
            "the time beyond the fastest operation's 2.0 ms",
        )

    def test_whole_time_if_there_is_no_other_operation(self) -> None:
        assert saved([recorded("KEYS *", duration=0.150)], "slow") == (
            pytest.approx(0.150),
            "the whole time",
        )

    @pytest.mark.parametrize(
        "other",
        [
            recorded("PING", duration=0.001, client="bar"),
            recorded("GET a", duration=0.001, error="CircuitOpenError"),
        ],
        ids=["of another client", "failed"],
    )
    def test_operation_that_says_nothing_about_a_round_trip(self, other: RecordedOperation) -> None:
        seconds, basis = saved([other, recorded("KEYS *", duration=0.150)], "slow")

        assert (seconds, basis) == (pytest.approx(0.150), "the whole time")

    def test_time_that_threads_share_counts_once(self) -> None:
        seconds, _ = saved([recorded("KEYS *", duration=0.150)] * 4, "slow")

        assert seconds == pytest.approx(0.150)

    def test_that_was_not_kept(self) -> None:
        seconds, _ = saved(
            [recorded("KEYS a", duration=0.010)],
            "slow",
            left_out=[recorded("KEYS *", duration=0.150)],
        )

        assert seconds == pytest.approx(0.140)


class TestWait:
    def test_whole_wait(self) -> None:
        operations = in_turn(0.150, 0.152, waited=0.120)

        assert saved(operations, "waiting") == (pytest.approx(0.240), "the whole wait")

    def test_that_threads_share_counts_once(self) -> None:
        waiting = [recorded("GET a", duration=0.150, waited=0.120)] * 3

        assert saved(waiting, "waiting")[0] == pytest.approx(0.120)


class TestLargeReply:
    def test_time_beyond_the_fastest_operation(self) -> None:
        operations = [
            recorded("GET a", duration=0.002),
            recorded("GET b", at=0.002, duration=0.012, size=LARGE),
        ]

        assert saved(operations, "large")[0] == pytest.approx(0.010)

    def test_that_was_not_kept_has_no_estimate(self) -> None:
        recording = recording_of(
            [recorded("GET a")], left_out=[recorded("GET b", duration=0.012, size=LARGE)]
        )

        (found,) = advice(recording)

        assert (found.mark, found.saving) == ("large", None)


def test_suggestions_that_save_the_most_come_first() -> None:
    elsewhere = (CallingLine("my_app/views.py", 99, "home"),)
    operations = [
        *in_turn(*[0.001] * 5),
        recorded("KEYS *", duration=0.150),
        *in_turn(*[0.020] * 6, lines=elsewhere),
        recorded("GET big", duration=0.110, size=LARGE, client="bar"),
    ]

    found = advice(recording_of(operations))

    assert [(each.mark, each.seen) for each in found] == [
        ("slow", "KEYS * took 150 ms"),
        ("slow", "GET big took 110 ms"),
        ("large", "reply of 200.0 kB to GET big"),
        ("many", "6 GETs"),
        ("many", "5 GETs"),
    ]
    assert _seconds(found) == sorted(_seconds(found), reverse=True)


def _seconds(found: Iterable[Advice]) -> list[float]:
    return [each.saving.seconds for each in found if each.saving]
