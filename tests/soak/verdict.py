"""The verdict on a soak: whether what it used stayed flat, and whether each request was answered.

A series is flat if the median of its quiet samples in the last quarter of the time is at most a
tolerance above the median of those in the second quarter. The first quarter warms the app up.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from statistics import median
from typing import NamedTuple

from .bounds import SLACK
from .records import QUIET, Answer, Records, Sample

ENOUGH = 30  # quiet samples of a quarter
QUIET_FAILURES = 1 / 200
"""The share of requests in quiet times that may be answered 503: other programs on the machine can
take the processors for longer than a timeout."""
SHOWN = 5  # examples of each reason


class Quantity(NamedTuple):
    """A quantity that has to stay flat."""

    unit: str
    value: Callable[[Sample], float]
    tolerance: float  #: in its unit
    share: float  #: of the first median, if that is more than the tolerance


QUANTITIES = {
    "USS": Quantity("MB", lambda sample: sample.uss, 1.5, 0.02),
    "RSS": Quantity("MB", lambda sample: sample.rss, 1.5, 0.02),
    "descriptors": Quantity("", lambda sample: sample.descriptors, 2, 0),
    "threads": Quantity("", lambda sample: sample.threads, 2, 0),
    "sockets to Redis": Quantity("", lambda sample: sample.sockets, 2, 0),
}
CONNECTIONS_TOLERANCE = 3.0  # of those that the server sees, of both workers of a class


@dataclass(frozen=True)
class Series:
    """A series with its medians of two quarters."""

    name: str
    second: float | None  #: ``None``: too few samples
    last: float | None
    tolerance: float

    @property
    def rise(self) -> float | None:
        return None if self.second is None or self.last is None else self.last - self.second

    @property
    def is_flat(self) -> bool:
        return self.rise is None or self.rise <= self.tolerance


@dataclass
class Verdict:
    """What came of a soak."""

    series: list[Series] = field(default_factory=list)
    reasons: list[str] = field(default_factory=list)  #: why it has failed

    @property
    def was_judged(self) -> bool:
        """Return whether the soak was long enough to say which series are flat."""
        return all(series.rise is not None for series in self.series)


def verdict_of(records: Records) -> Verdict:
    """Judge a soak."""
    verdict = Verdict(series=all_series(records))
    verdict.reasons += records.errors
    verdict.reasons += [
        f"{series.name}: rose from {series.second:.1f} to {series.last:.1f}, by more than "
        f"{series.tolerance:.1f}"
        for series in verdict.series
        if not series.is_flat
    ]
    verdict.reasons += _full_pools(records)
    verdict.reasons += _requests(records)
    if records.clicks and records.clicks["kept"] < records.clicks["acknowledged"]:
        verdict.reasons.append(f"clicks were lost: {records.clicks}")
    if records.clicks.get("waiting") or records.clicks.get("dead"):
        verdict.reasons.append(f"clicks were not processed: {records.clicks}")
    return verdict


def all_series(records: Records) -> list[Series]:
    """Return each series with its medians."""
    series = []
    for process in dict.fromkeys(sample.process for sample in records.samples):
        samples = [sample for sample in records.samples if sample.process == process]
        for name, quantity in QUANTITIES.items():
            points = [(sample.at, quantity.value(sample)) for sample in samples]
            series.append(
                series_of(f"{process}, {name}", points, records, quantity.tolerance, quantity.share)
            )
    for name in sorted({name for each in records.clients for name in each.connections}):
        points = [(each.at, float(each.connections.get(name, 0))) for each in records.clients]
        title = f"connections of {name or 'no name'} in CLIENT LIST"
        series.append(series_of(title, points, records, CONNECTIONS_TOLERANCE))
    return series


def series_of(
    name: str,
    points: list[tuple[float, float]],
    records: Records,
    tolerance: float,
    share: float = 0.0,
) -> Series:
    """Compare the second quarter of a series with its last one.

    :param points: times and values.
    """
    quarter = records.seconds / 4
    quiet = [(at, value) for at, value in points if records.phase(at) == QUIET]
    second = [value for at, value in quiet if quarter <= at < 2 * quarter]
    last = [value for at, value in quiet if at >= 3 * quarter]
    if min(len(second), len(last)) < ENOUGH:
        return Series(name, None, None, tolerance)
    before = median(second)
    return Series(name, before, median(last), max(tolerance, share * before))


def _full_pools(records: Records) -> list[str]:
    """Return a reason for each process that had more connections than its pool allows.

    A single sample is none: it can see a connection that is about to be closed.
    """
    reasons = []
    quiet = [sample for sample in records.samples if records.phase(sample.at) == QUIET]
    for process, count in Counter(sample.process for sample in quiet).items():
        sockets = [sample.sockets for sample in quiet if sample.process == process]
        above = sum(each > records.max_connections for each in sockets)
        if above > max(1, count / 100):
            reasons.append(
                f"{process} had more than the pool's {records.max_connections} sockets to Redis "
                f"in {above} of {count} quiet samples"
            )
    return reasons


def _requests(records: Records) -> list[str]:
    reasons = []
    for title, answers in (
        ("wrong or missing answers", [each for each in records.answers if each.wrong]),
        ("answers after their bound", [each for each in records.answers if is_late(each)]),
    ):
        if answers:
            reasons.append(f"{len(answers)} {title}")
            reasons += [f"  {_example(each, records)}" for each in answers[:SHOWN]]
    statuses = Counter(each.status for each in records.answers if phase_of(each, records) == QUIET)
    if statuses[503] > QUIET_FAILURES * statuses.total():
        reasons.append(
            f"{statuses[503]} of {statuses.total()} requests in quiet times were answered 503"
        )
    if not records.answers:
        reasons.append("no request was sent")
    return reasons


def is_late(answer: Answer) -> bool:
    return answer.seconds > answer.bound + SLACK


def phase_of(answer: Answer, records: Records) -> str:
    """Return the fault during a request, ``settling`` or ``quiet``."""
    return records.phase(answer.begun, answer.begun + answer.seconds)


def _example(answer: Answer, records: Records) -> str:
    return (
        f"at {answer.begun:.1f} s ({phase_of(answer, records)}): {answer.group}, {answer.page}: "
        f"{answer.status} after {answer.seconds:.2f} s, bound {answer.bound:.1f} s. {answer.wrong}"
    )
