"""The test suite's own plugin: slow tests are left out, and tests marked alone run alone."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[1]
HEADER = """
import time
from pathlib import Path

import pytest

def note(text):
    with Path(__file__).with_name("notes").open("a") as notes:
        notes.write(f"{text}\\n")
"""
SLOW = """
def test_quick():
    pass

@pytest.mark.slow("a reason")
def test_slow():
    pass
"""
ALONE = """
@pytest.mark.alone("a reason")
@pytest.mark.parametrize("number", range(5))
def test_alone(number):
    note("begin")
    time.sleep(0.1)
    note("end")
"""
OTHERS = """
@pytest.mark.parametrize("number", range(20))
def test_shared(number):
    note("shared")
    time.sleep(0.02)
"""

pytestmark = pytest.mark.slow("starts pytest, and that its workers")


def run(directory: Path, *arguments: str, **files: str) -> subprocess.CompletedProcess[str]:
    for name, text in files.items():
        (directory / f"test_{name}.py").write_text(HEADER + text)
    command = [sys.executable, "-m", "pytest", "-p", "tests.support.selection"]
    command += ["-p", "no:cacheprovider", "--rootdir", str(directory), "--strict-markers"]
    return subprocess.run(
        [*command, "-c", "/dev/null", *arguments, str(directory)],
        cwd=PROJECT, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip


@pytest.mark.parametrize("workers", ["0", "2"])
def test_slow_tests_are_left_out_and_counted(tmp_path: Path, workers: str) -> None:
    ended = run(tmp_path, "-n", workers, slow=SLOW)
    assert ended.returncode == 0
    assert "1 passed" in ended.stdout
    assert "1 slow tests were left out: run pytest --slow\n" in ended.stdout


@pytest.mark.parametrize("workers", ["0", "2"])
def test_slow_tests_run_when_asked_for(tmp_path: Path, workers: str) -> None:
    ended = run(tmp_path, "-n", workers, "--slow", slow=SLOW)
    assert "2 passed" in ended.stdout
    assert "left out" not in ended.stdout


@pytest.mark.parametrize("marker", ["slow", "slow()", "alone"])
def test_a_marker_without_a_reason_is_an_error(tmp_path: Path, marker: str) -> None:
    test = f"@pytest.mark.{marker}\ndef test_it():\n    pass\n"
    ended = run(tmp_path, "-n", "0", marked=test)
    assert ended.returncode != 0
    assert f"test_it: the marker {marker.rstrip('()')} needs a reason" in ended.stderr


def test_no_other_test_runs_beside_one_that_is_alone(tmp_path: Path) -> None:
    ended = run(tmp_path, "-n", "2", "--dist", "loadfile", alone=ALONE, others=OTHERS)
    assert "25 passed" in ended.stdout
    notes = (tmp_path / "notes").read_text().split()
    assert notes.count("shared") == 20
    assert [notes[index + 1] for index, note in enumerate(notes) if note == "begin"] == ["end"] * 5


def test_nor_does_one_of_another_run_with_the_same_lock(tmp_path: Path) -> None:
    lock = ["--lock", str(tmp_path / "lock")]
    runs = [partial(run, tmp_path, "-n", "0", *lock, alone=ALONE)]
    runs.append(partial(run, tmp_path, "-n", "2", "--dist", "loadfile", *lock, others=OTHERS))
    with ThreadPoolExecutor() as threads:
        ended = [future.result() for future in [threads.submit(each) for each in runs]]
    assert [each.returncode for each in ended] == [0, 0]
    notes = (tmp_path / "notes").read_text().split()
    assert {notes[index + 1] for index, note in enumerate(notes) if note == "begin"} == {"end"}


def failing(times: int) -> str:
    return f"""
@pytest.mark.alone("a reason")
def test_it():
    note("ran")
    assert Path(__file__).with_name("notes").read_text().count("ran") > {times}
"""


def test_a_test_that_is_alone_and_fails_by_chance_is_run_again(tmp_path: Path) -> None:
    ended = run(tmp_path, "-n", "0", failing=failing(times=2))
    assert "1 passed, 2 rerun" in ended.stdout


def test_a_test_that_is_alone_and_always_fails_has_failed(tmp_path: Path) -> None:
    ended = run(tmp_path, "-n", "0", failing=failing(times=3))
    assert "1 failed, 2 rerun" in ended.stdout


def test_another_test_that_fails_is_not_run_again(tmp_path: Path) -> None:
    ended = run(tmp_path, "-n", "0", "--slow", failing=failing(times=1).replace("alone", "slow"))
    assert "1 failed in" in ended.stdout
