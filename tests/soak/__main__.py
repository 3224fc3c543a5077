"""Run the example app under load and faults, and judge whether it stays as it was.

    python -m tests.soak --minutes 20 --report docs/explanation/soak

The app runs under gunicorn, with threads, with greenlets, or with both side by side. A fault comes
every few seconds, and a quiet time follows. The exit status is 1 if a request was answered wrongly,
after its bound or not at all, if memory, file descriptors, threads or connections rose, or if a
process died. Whether they rose is judged if the soak is long enough, about ten minutes.
"""

from __future__ import annotations

import argparse
import signal
import sys
from pathlib import Path

from .deployment import OPTIONS
from .records import Records
from .report.text import text_of
from .run import soak
from .verdict import verdict_of


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.soak", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("--minutes", type=float, default=20)
    parser.add_argument("--worker-class", choices=[*OPTIONS, "both"], default="both")
    parser.add_argument("--seed", type=int, default=1, help="of the order of the faults")
    parser.add_argument("--quiet", type=float, default=6, help="seconds between two faults")
    parser.add_argument("--report", type=Path, help="the directory to write a report to")
    parser.add_argument("--no-plots", action="store_true", help="write the report's text only")
    parser.add_argument("--data", type=Path, help="a file for everything that was recorded")
    parser.add_argument("--again", type=Path, help="a file of --data to report on; nothing runs")
    given = parser.parse_args(argv)
    if given.again:
        records = Records.read(given.again)
    else:
        # Everything that was started is stopped then.
        signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped by SIGTERM"))
        both = given.worker_class == "both"
        worker_classes = [*OPTIONS] if both else [given.worker_class]
        records = soak(given.minutes, worker_classes, given.seed, given.quiet)
    if given.data:
        records.write(given.data)
    verdict = verdict_of(records)
    text = text_of(records, verdict)
    sys.stdout.write(text)
    if given.report:
        given.report.mkdir(parents=True, exist_ok=True)
        (given.report / "summary.txt").write_text(text)
        if not given.no_plots:
            from .report.plots import draw  # needs matplotlib, of the dependency group "soak"

            draw(records, given.report)
    return 1 if verdict.reasons else 0


if __name__ == "__main__":
    sys.exit(main())
