"""A soak of 15 seconds sees requests and faults, and writes its report."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [
    pytest.mark.slow("runs the app under gunicorn for 15 seconds"),
    pytest.mark.alone("each request has to be answered within its bound"),
]

PROJECT = Path(__file__).parents[2]


def test_a_short_soak_passes_and_writes_its_report(tmp_path: Path) -> None:
    command = [
        sys.executable, "-m", "tests.soak", "--minutes", "0.25", "--worker-class", "gthread",
        "--quiet", "2", "--no-plots", "--report", str(tmp_path),
    ]  # fmt: skip
    ended = subprocess.run(
        command, cwd=PROJECT, capture_output=True, text=True, timeout=150, check=False
    )
    assert ended.returncode == 0, ended.stdout[-8000:] + ended.stderr[-8000:]
    report = (tmp_path / "summary.txt").read_text()
    assert report == ended.stdout
    assert [file.name for file in tmp_path.iterdir()] == ["summary.txt"]
    assert "Passed. The soak was too short to judge every series" in report

    def figure(name: str) -> int:
        found = re.search(rf"^{name} +(\d+)", report, re.MULTILINE)
        assert found, report
        return int(found[1])

    # It was a soak: each page was asked, faults came, processes were sampled, the queue was used.
    assert figure("faults") >= 2
    assert figure("requests") > 100
    for page in ("follow", "links", "echo", "pubsub", "lock"):
        assert figure(page) > 0
    for process in ("gthread 1", "gthread 2", "queue worker"):
        assert f"{process}, USS" in report
    clicks = re.search(r"Clicks: (\d+) acknowledged, (\d+) kept, 0 waiting, 0 dead", report)
    assert clicks, report
    assert 0 < int(clicks[1]) <= int(clicks[2])
