"""The report's plots, each in the colors of a light page and of a dark one. Needs matplotlib."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import NamedTuple

import matplotlib as mpl
from matplotlib import pyplot as plt
from matplotlib.axes import Axes

from ..bounds import SLACK
from ..records import QUIET, Records, Sample
from ..verdict import QUANTITIES

BIN = 5.0  # seconds of which a plot of requests shows one value
PROCESSES = ("gthread 1", "gthread 2", "gevent 1", "gevent 2", "queue worker")


class Scheme(NamedTuple):
    """The colors of a page. Those of the processes can be told apart by the color-blind."""

    ink: str
    processes: tuple[str, ...]  #: of :data:`PROCESSES`
    limit: str

    @property
    def groups(self) -> dict[str, str]:
        return {"gthread": self.processes[0], "gevent": self.processes[2]}


SCHEMES = {
    "light": Scheme("#333333", ("#0072b2", "#56b4e9", "#d55e00", "#e69f00", "#009e73"), "#cc3311"),
    "dark": Scheme("#d0d0d0", ("#4aa8ff", "#a5d8ff", "#ff7f3f", "#ffc24d", "#2fd0a0"), "#ff6655"),
}
mpl.use("svg")


def draw(records: Records, directory: Path) -> None:
    """Write each plot as SVG."""
    plots = {"memory": _memory, "resources": _resources, "requests": _requests, "bounds": _bounds}
    for scheme_name, scheme in SCHEMES.items():
        for name, plot in plots.items():
            with _style(scheme.ink):
                plot(records, scheme)
                # Without its date, and with the same ids each time.
                plt.savefig(directory / f"{name}-{scheme_name}.svg", metadata={"Date": None})
                plt.close()


@contextmanager
def _style(ink: str) -> Iterator[None]:
    names = (
        "text.color", "axes.edgecolor", "axes.labelcolor", "axes.titlecolor", "xtick.color",
        "ytick.color", "grid.color",
    )  # fmt: skip
    style = {
        **dict.fromkeys(names, ink), "font.size": 9, "axes.titlesize": 9, "grid.alpha": 0.2,
        "axes.titlelocation": "left", "axes.grid": True, "axes.spines.top": False,
        "axes.spines.right": False, "lines.linewidth": 1.1, "legend.frameon": False,
        "savefig.transparent": True, "svg.hashsalt": "soak", "svg.fonttype": "none",
        "font.family": "sans-serif", "figure.constrained_layout.use": True,
    }  # fmt: skip
    with mpl.rc_context(style):
        yield


def _panels(records: Records, titles: list[str], height: float) -> list[Axes]:
    """Return panels that share the axis of time, one above the other, with the faults in gray."""
    figure, panels = plt.subplots(
        len(titles), sharex=True, squeeze=False, figsize=(8, 0.8 + height * len(titles))
    )
    for panel, title in zip(panels[:, 0], titles, strict=True):
        panel.set_title(title)
        for fault in records.faults:
            panel.axvspan(fault.begun / 60, fault.ended / 60, color="#888888", alpha=0.25, lw=0)
    panels[-1, 0].set_xlabel("minutes (gray: a fault)")
    panels[-1, 0].set_xlim(0, records.minutes)
    figure.align_ylabels()
    return list(panels[:, 0])


def _legend(panel: Axes) -> None:
    panel.figure.legend(
        *panel.get_legend_handles_labels(), loc="outside upper right", ncols=6, handlelength=1.2
    )


def _lines(
    panel: Axes,
    records: Records,
    scheme: Scheme,
    value: Callable[[Sample], float],
    from_second: bool = False,
) -> None:
    """Draw a line for each process.

    :param from_second: draw the difference from the median of the second quarter.
    """
    for name, color in zip(PROCESSES, scheme.processes, strict=True):
        samples = [sample for sample in records.samples if sample.process == name]
        if not samples:
            continue
        second = [
            value(sample)
            for sample in samples
            if records.seconds / 4 <= sample.at < records.seconds / 2
            and records.phase(sample.at) == QUIET
        ]
        start = median(second) if from_second and second else 0.0
        panel.plot(
            [sample.at / 60 for sample in samples],
            [value(sample) - start for sample in samples],
            color=color, label=name,
        )  # fmt: skip


def _memory(records: Records, scheme: Scheme) -> None:
    names = ["USS", "RSS"]
    titles = [f"{name}, MB above the median of the second quarter" for name in names]
    panels = _panels(records, titles, 2.1)
    for panel, name in zip(panels, names, strict=True):
        quantity = QUANTITIES[name]
        _lines(panel, records, scheme, quantity.value, from_second=True)
        panel.axhline(quantity.tolerance, color=scheme.limit, ls="--", label="allowed")
        panel.set_ylim(bottom=-8)
    _legend(panels[0])


def _resources(records: Records, scheme: Scheme) -> None:
    names = ["descriptors", "threads", "sockets to Redis"]
    panels = _panels(records, [f"{name} of each process" for name in names], 1.6)
    for panel, name in zip(panels, names, strict=True):
        _lines(panel, records, scheme, QUANTITIES[name].value)
        panel.set_ylim(bottom=0)
    _legend(panels[0])


def _requests(records: Records, scheme: Scheme) -> None:
    titles = [
        f"seconds of the median and of the slowest request of each {BIN:g} s",
        f"requests answered 503, % of each {BIN:g} s",
    ]
    times, unavailable = _panels(records, titles, 2.1)
    for group, color in scheme.groups.items():
        bins = defaultdict(list)
        for answer in records.answers:
            if answer.group == group:
                bins[int(answer.begun / BIN)].append(answer)
        if not bins:
            continue
        minutes = [(number + 0.5) * BIN / 60 for number in sorted(bins)]
        answers = [bins[number] for number in sorted(bins)]
        seconds = [[each.seconds for each in some] for some in answers]
        times.plot(minutes, list(map(max, seconds)), color=color, label=f"{group}, slowest")
        times.plot(
            minutes, list(map(median, seconds)), color=color, ls=":", label=f"{group}, median"
        )
        shares = [100 * sum(each.status == 503 for each in some) / len(some) for some in answers]
        unavailable.plot(minutes, shares, color=color)
    times.set_yscale("log")
    unavailable.set_ylim(0, 100)
    _legend(times)


def _bounds(records: Records, scheme: Scheme) -> None:
    """Draw the slowest request of each page beside the page's bound."""
    pages = sorted({(answer.bound, answer.page) for answer in records.answers})
    _, panel = plt.subplots(figsize=(8, 0.9 + 0.28 * len(pages)))
    for row, (bound, page) in enumerate(pages):
        seconds = [answer.seconds for answer in records.answers if answer.page == page]
        panel.barh(row, bound + SLACK, color="#888888", alpha=0.2, height=0.7)
        panel.barh(row, bound, color="#888888", alpha=0.3, height=0.7)
        panel.plot(median(seconds), row, "|", color=scheme.groups["gthread"], ms=9, mew=2)
        panel.plot(max(seconds), row, "o", color=scheme.groups["gevent"], ms=5)
    panel.set_yticks(range(len(pages)), [page for _, page in pages])
    panel.set_xscale("log")
    panel.grid(False, axis="y")
    panel.set_title(
        "seconds: the median (line) and the slowest request (dot) of each page, and its bound "
        "with the slack"
    )
