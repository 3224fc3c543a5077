"""The verdict refuses planted leaks, late answers and wrong ones, and accepts noise."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from .records import Answer, Clients, FaultSpan, Records, Sample
from .verdict import SLACK, Verdict, all_series, verdict_of

SECONDS = 600
NOISE = random.Random(1)


def records_of(
    uss: Callable[[int], float] = lambda at: 60.0,
    descriptors: Callable[[int], float] = lambda at: 20,
    connections: Callable[[int], int] = lambda at: 2,
    sockets: int = 2,
) -> Records:
    """Ten minutes of one process, whose faults come every 20 seconds and last for 3."""
    records = Records(minutes=SECONDS / 60, max_connections=4)
    records.faults = [FaultSpan("killed", at, at + 3.0) for at in range(10, SECONDS, 20)]
    for at in range(SECONDS):
        records.samples.append(
            Sample(at, "gthread 1", 1, 80.0, uss(at), int(descriptors(at)), 12, sockets)
        )
        records.clients.append(Clients(at, {"gthread": connections(at)}))
        records.answers.append(answer(at))
    return records


def answer(begun: float, seconds: float = 0.05, status: int = 200, wrong: str = "") -> Answer:
    return Answer(begun, seconds, "gthread", "echo", status, 1.0, wrong)


def reasons(records: Records) -> str:
    return "\n".join(verdict_of(records).reasons)


def passed(verdict: Verdict) -> bool:
    return verdict.was_judged and not verdict.reasons


def test_a_soak_that_stays_as_it_was_passes() -> None:
    assert passed(verdict_of(records_of()))


def test_noise_is_no_rise() -> None:
    noisy = records_of(
        uss=lambda at: 60 + NOISE.uniform(-4, 4),
        descriptors=lambda at: 20 + NOISE.choice([0, 0, 1, 4]),
        connections=lambda at: NOISE.choice([1, 2, 8]),
    )
    assert passed(verdict_of(noisy))


def test_a_warm_up_in_the_first_quarter_is_no_rise() -> None:
    assert passed(verdict_of(records_of(uss=lambda at: 60 + 20 * min(1, at / 140))))


def test_what_a_fault_takes_for_a_while_is_no_rise() -> None:
    spiky = records_of(
        descriptors=lambda at: 20 + (30 * at // 100 if at % 20 in range(10, 14) else 0)
    )
    assert passed(verdict_of(spiky))


@pytest.mark.parametrize("noise", [0.0, 3.0])
def test_memory_that_rises_is_refused(noise: float) -> None:
    leaking = records_of(uss=lambda at: 60 + at / 60 + NOISE.uniform(-noise, noise))  # 1 MB/minute
    assert "gthread 1, USS: rose from" in reasons(leaking)


def test_a_descriptor_that_leaks_with_each_fault_is_refused() -> None:
    assert "descriptors: rose" in reasons(records_of(descriptors=lambda at: 20 + at // 100))


def test_connections_that_leak_are_refused() -> None:
    assert "CLIENT LIST: rose" in reasons(records_of(connections=lambda at: 2 + at // 60))


def test_more_sockets_than_the_pool_has_are_refused() -> None:
    assert "more than the pool's 4 sockets" in reasons(records_of(sockets=5))


def test_a_short_soak_says_that_it_judges_no_series() -> None:
    records = records_of(uss=lambda at: 60 + at)
    records.samples, records.minutes = records.samples[:60], 1
    uss = next(series for series in all_series(records) if series.name.endswith("USS"))
    assert uss.rise is None
    assert not verdict_of(records).was_judged


def test_an_answer_after_its_bound_is_reported() -> None:
    records = records_of()
    records.answers.append(answer(17.0, seconds=1 + SLACK - 0.1))
    assert passed(verdict_of(records))
    records.answers.append(answer(11.0, seconds=1 + SLACK + 0.1, status=503))
    assert "1 answers after their bound" in reasons(records)
    assert "at 11.0 s (killed): gthread, echo: 503 after 3.10 s, bound 1.0 s" in reasons(records)


def test_a_wrong_answer_is_reported() -> None:
    records = records_of()
    records.answers.append(answer(30.0, wrong="200  another question's"))
    assert "1 wrong or missing answers" in reasons(records)
    assert "another question's" in reasons(records)


def test_503_is_an_answer_to_a_fault_and_not_to_a_quiet_time() -> None:
    records = records_of()
    records.answers += [answer(11.0, status=503)] * 100
    records.answers += [answer(14.0, status=503)] * 100  # the breaker is still open
    assert passed(verdict_of(records))
    records.answers += [answer(18.0, status=503)] * 10
    assert "requests in quiet times were answered 503" in reasons(records)


@pytest.mark.parametrize(
    "clicks",
    [
        {"acknowledged": 9, "kept": 8, "waiting": 0, "dead": 0},
        {"acknowledged": 9, "kept": 9, "waiting": 1, "dead": 0},
        {"acknowledged": 9, "kept": 9, "waiting": 0, "dead": 1},
    ],
)
def test_clicks_that_are_lost_or_not_processed_are_reported(clicks: dict[str, int]) -> None:
    records = records_of()
    records.clicks = {"acknowledged": 9, "kept": 10, "waiting": 0, "dead": 0}
    assert passed(verdict_of(records))
    records.clicks = clicks
    assert "clicks" in reasons(records)
