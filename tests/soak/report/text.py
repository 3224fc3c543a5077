"""The report's text: what ran, the requests by page and by fault, and each series."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from statistics import median
from textwrap import fill

from ..bounds import SLACK
from ..records import QUIET, SETTLES, Records
from ..verdict import Verdict, phase_of


def text_of(records: Records, verdict: Verdict) -> str:
    """Return the report on a soak."""
    parts = [
        _machine(records),
        _pages(records),
        _phases(records),
        _series(verdict),
        _queue(records),
        _result(verdict),
    ]
    return "\n\n".join(parts) + "\n"


def _machine(records: Records) -> str:
    latest = sorted(records.lateness) or [0.0]
    rows = [
        ("minutes", f"{records.minutes:g}"),
        *records.machine.items(),
        ("pool", f"{records.max_connections} connections in each process"),
        ("faults", str(len(records.faults))),
        ("requests", str(len(records.answers))),
        (
            "lateness",
            "a thread that sleeps for 50 ms woke up late by "
            f"{median(latest) * 1000:.0f} ms (the median of each second's worst), "
            f"{latest[-1] * 1000:.0f} ms at most",
        ),
    ]
    width = max(len(name) for name, _ in rows)
    indent = " " * (width + 2)
    return "\n".join(
        fill(value, 98, initial_indent=f"{name:{width}}  ", subsequent_indent=indent)
        for name, value in rows
    )


def _pages(records: Records) -> str:
    pages = defaultdict(list)
    for answer in records.answers:
        pages[answer.page].append(answer)
    rows = []
    for page, answers in pages.items():
        seconds = sorted(answer.seconds for answer in answers)
        bound = answers[0].bound
        rows.append(
            (
                page, str(len(seconds)), f"{bound:.1f}", f"{median(seconds):.3f}",
                f"{seconds[int(len(seconds) * 0.99)]:.3f}", f"{seconds[-1]:.3f}",
                _statuses(answer.status for answer in answers),
            )
        )  # fmt: skip
    title = f"Requests by page. Each may take {SLACK:g} seconds more than its bound (seconds)."
    header = ("page", "requests", "bound", "median", "99 %", "slowest", "statuses")
    return f"{title}\n\n{_table(header, rows)}"


def _phases(records: Records) -> str:
    times = Counter(fault.name for fault in records.faults)
    phases = defaultdict(list)
    for answer in records.answers:
        phases[phase_of(answer, records)].append(answer)
    order = [QUIET, SETTLES, *sorted({*phases} - {QUIET, SETTLES})]
    rows = []
    for phase in order:
        answers = phases.get(phase, [])
        if not answers:
            continue
        slowest = max(answers, key=lambda answer: answer.seconds)
        rows.append(
            (
                phase, str(times[phase] or ""), str(len(answers)),
                f"{median(answer.seconds for answer in answers):.3f}",
                f"{slowest.seconds:.3f} of {slowest.bound:.1f} ({slowest.page})",
                _statuses(answer.status for answer in answers),
            )
        )  # fmt: skip
    header = ("fault", "times", "requests", "median", "slowest", "statuses")
    return f"Requests by fault (seconds).\n\n{_table(header, rows)}"


def _series(verdict: Verdict) -> str:
    rows = [
        (
            series.name,
            "" if series.second is None else f"{series.second:.1f}",
            "" if series.last is None else f"{series.last:.1f}",
            "" if series.rise is None else f"{series.rise:+.1f}",
            f"{series.tolerance:.1f}",
            "not judged" if series.rise is None else "flat" if series.is_flat else "ROSE",
        )
        for series in verdict.series
    ]
    header = ("series", "second quarter", "last quarter", "rise", "allowed", "verdict")
    return f"Medians of quiet samples.\n\n{_table(header, rows)}"


def _queue(records: Records) -> str:
    return "Clicks: " + ", ".join(f"{count} {name}" for name, count in records.clicks.items())


def _result(verdict: Verdict) -> str:
    if verdict.reasons:
        return "FAILED:\n" + "\n".join(verdict.reasons)
    if not verdict.was_judged:
        return "Passed. The soak was too short to judge every series: see above."
    return "Passed: every series is flat, and every request was answered rightly and in time."


def _statuses(statuses: Iterable[int]) -> str:
    counted = sorted(Counter(statuses).items())
    return ", ".join(f"{status or 'no answer'}: {count}" for status, count in counted)


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    lines = [header, ["-" * width for width in widths], *rows]
    return "\n".join(
        "  ".join(f"{cell:{width}}" for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )
