"""The part of a request that Redis took, of recordings whose times are known."""

from __future__ import annotations

import pytest

from pyramid_baseplate_redis.debugtoolbar.timeline import Interval, covered, share_of

from .operations import in_turn, recorded, recording_of


@pytest.mark.parametrize(
    ("intervals", "seconds"),
    [
        ([], 0.0),
        ([(1.0, 3.0)], 2.0),
        ([(5.0, 6.0), (1.0, 3.0)], 3.0),
        ([(1.0, 3.0), (3.0, 4.0)], 3.0),
        ([(1.0, 3.0), (2.0, 4.0)], 3.0),
        ([(1.0, 9.0), (2.0, 3.0), (8.0, 10.0)], 9.0),
        ([(1.0, 3.0), (1.0, 3.0)], 2.0),
    ],
)
def test_time_in_at_least_one_interval(intervals: list[Interval], seconds: float) -> None:
    assert covered(intervals) == seconds


def test_operations_in_turn() -> None:
    share = share_of(recording_of(in_turn(0.002, 0.001, 0.003), handled=0.010))

    assert (share.request, share.redis) == (0.010, pytest.approx(0.006))
    assert share.application == pytest.approx(0.004)
    assert share.added == pytest.approx(share.redis)
    assert not share.is_most


def test_operations_of_threads_take_no_more_than_the_request() -> None:
    overlapping = [recorded("GET a", at=0.001 * number, duration=0.008) for number in range(3)]
    share = share_of(recording_of(overlapping, handled=0.010))

    assert share.redis == pytest.approx(0.010)
    assert share.added == pytest.approx(0.024)
    assert share.application == pytest.approx(0.0)


def test_request_without_operations() -> None:
    share = share_of(recording_of([], handled=0.010))

    assert (share.request, share.redis, share.waiting, share.added) == (0.010, 0.0, 0.0, 0.0)


def test_request_that_has_not_been_handled() -> None:
    share = share_of(recording_of([recorded("GET a", at=0.002, duration=0.002)]))

    assert (share.request, share.redis) == (0.004, pytest.approx(0.002))


def test_failed_operation_counts() -> None:
    failed = recorded("GET a", duration=0.005, error="TimeoutError: too late")
    share = share_of(recording_of([failed], handled=0.010))

    assert share.redis == pytest.approx(0.005)


def test_only_the_part_before_the_response_counts() -> None:
    operations = [
        recorded("GET a", at=-0.002, duration=0.003),  # a thread began it before the request
        recorded("GET a", at=0.009, duration=0.005),
        recorded("GET a", at=0.020, duration=0.005),
    ]
    share = share_of(recording_of(operations, handled=0.010))

    assert share.request == 0.010
    assert share.redis == pytest.approx(0.002)


def test_wait_for_a_connection_is_part_of_it() -> None:
    share = share_of(recording_of([recorded("GET a", duration=0.005, waited=0.003)], handled=0.010))

    assert (share.redis, share.waiting) == (pytest.approx(0.005), pytest.approx(0.003))


def test_wait_while_another_operation_runs_is_no_mere_waiting() -> None:
    operations = [
        recorded("GET a", duration=0.003),
        recorded("GET b", duration=0.005, waited=0.003),
    ]
    share = share_of(recording_of(operations, handled=0.010))

    assert (share.redis, share.waiting) == (pytest.approx(0.005), pytest.approx(0.0))


def test_operations_that_were_not_kept_count_with_their_whole_duration() -> None:
    share = share_of(recording_of(in_turn(0.002), handled=0.010, left_out=in_turn(0.001, 0.003)))

    assert share.redis == pytest.approx(0.006)
    assert share.is_most


def test_operations_that_were_not_kept_take_no_more_than_the_request() -> None:
    share = share_of(recording_of(in_turn(0.002), handled=0.010, left_out=in_turn(0.5)))

    assert share.redis == 0.010
