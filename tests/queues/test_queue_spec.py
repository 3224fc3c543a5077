"""The names, keys and limits of a durable queue."""

from __future__ import annotations

import random
from datetime import timedelta
from typing import Any

import pytest

from pyramid_baseplate_redis.queues.queue_spec import (
    checked_delay,
    keys_of,
    process_consumer,
)

from .fakes import spec_of

TEN_YEARS = 10 * 365 * 24 * 3600


@pytest.mark.parametrize(
    "options",
    [
        {"lease": 0.001}, {"max_attempts": 1}, {"max_length": 1}, {"max_length": None},
        {"delay": 0.0}, {"delay": float(TEN_YEARS)}, {"backoff": (0.0, float(TEN_YEARS))},
        {"keep_errors": "class"},
    ],
    ids=str,
)  # fmt: skip
def test_the_limits_themselves_are_allowed(options: dict[str, Any]) -> None:
    spec = spec_of(**options)
    assert {name: getattr(spec, name) for name in options} == options


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"lease": 0.0009}, "lease: 0.0009 seconds is out of range"),
        ({"lease": float("inf")}, "lease: inf seconds is out of range"),
        ({"lease": float("nan")}, "lease: nan seconds is out of range"),
        ({"max_attempts": 0}, "max_attempts and max_length: must be 1 or more"),
        ({"max_length": 0}, "max_attempts and max_length: must be 1 or more"),
        ({"delay": -0.001}, "delay: -0.001 is out of range"),
        ({"delay": TEN_YEARS + 1.0}, "delay: 315360001.0 is out of range"),
        ({"backoff": (1.0, TEN_YEARS + 1.0)}, "delay: 315360001.0 is out of range"),
        ({"keep_errors": "text"}, "keep_errors: 'text' is unknown"),
        ({"name": ""}, "its name or its group is empty"),
        ({"group": ""}, "its name or its group is empty"),
    ],
    ids=str,
)  # fmt: skip
def test_values_just_beyond_the_limits_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        spec_of(**options)


def test_a_time_span_may_be_a_timedelta() -> None:
    assert checked_delay(timedelta(minutes=1, milliseconds=5)) == 60.005


def test_the_keys_are_in_one_slot_of_a_cluster() -> None:
    spec = spec_of(name="jobs")
    assert (spec.key, spec.dead_key) == ("{jobs}:messages", "{jobs}:dead")
    assert (spec.waiting_key, spec.delayed_key) == ("{jobs}:waiting", "{jobs}:delayed")
    assert spec.later_key(b"17-a") == "{jobs}:later:17-a"
    assert spec.unique_key(b"\xff") == b"{jobs}:unique:\xff"


@pytest.mark.parametrize(
    ("name", "tagged"),
    [
        ("{shop}jobs", "{shop}jobs"),
        ("a{shop}", "a{shop}"),
        ("{}jobs", "{{}jobs}"),
        ("{jobs", "{{jobs}"),
        ("jobs}", "{jobs}}"),
    ],
)
def test_a_hash_tag_of_the_name_is_kept(name: str, tagged: str) -> None:
    assert keys_of(name) == (f"{tagged}:messages", f"{tagged}:dead")


@pytest.mark.parametrize(("lease", "milliseconds"), [(0.0016, 2), (30.0, 30_000), (0.5, 500)])
def test_the_lease_is_rounded_to_milliseconds(lease: float, milliseconds: int) -> None:
    assert spec_of(lease=lease).lease_ms == milliseconds


def test_a_consumer_without_a_name_is_this_process() -> None:
    assert spec_of(given_consumer=None).consumer == process_consumer()
    assert spec_of(given_consumer="first").consumer == "first"


def test_the_name_of_a_process_ends_with_eight_random_digits() -> None:
    """Two processes with the same host name and process ID are two consumers."""
    token = process_consumer().rpartition(":")[2]
    assert len(token) == 8
    assert int(token, 16) >= 0


def test_a_wait_is_changed_by_a_fifth_at_most(monkeypatch: pytest.MonkeyPatch) -> None:
    bounds: list[tuple[float, float]] = []

    def uniform(low: float, high: float) -> float:
        bounds.append((low, high))
        return high

    monkeypatch.setattr(random, "uniform", uniform)
    assert spec_of(backoff=(10.0,)).wait_after(1) == 12.0
    assert bounds == [(0.8, 1.2)]


def test_each_attempt_has_its_own_wait_and_the_last_one_is_repeated(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(random, "uniform", lambda low, high: 1.0)
    spec = spec_of(backoff=(1.0, 5.0, 30.0))
    assert [spec.wait_after(attempts) for attempts in (1, 2, 3, 4)] == [1.0, 5.0, 30.0, 30.0]


def test_a_delay_is_not_changed() -> None:
    assert spec_of(delay=7.0).wait_after(3) == 7.0
    assert spec_of(delay=0.0, backoff=(5.0,)).wait_after(1) == 0.0


def test_without_a_wait_a_failed_message_is_due_at_once() -> None:
    assert spec_of().wait_after(1) == 0.0
