"""The test suite's own plugins: what is left out, what runs at the same time, and the order."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import groupby
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
TIMED = """
@pytest.mark.timed("a reason")
@pytest.mark.parametrize("number", range(5))
def test_timed(number):
    note("timed-begin")
    time.sleep(0.1)
    note("timed-end")
"""
TIMED_TOGETHER = """
@pytest.mark.timed("a reason")
def test_timed():
    note("begun")
    ends_at = time.monotonic() + 60
    while Path(__file__).with_name("notes").read_text().count("begun") < 2:
        assert time.monotonic() < ends_at
        time.sleep(0.01)
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
    command = [sys.executable, "-m", "pytest", "--rootdir", str(directory), "--strict-markers"]
    for plugin in ("xdist.plugin", "pytest_rerunfailures", "tests.support.selection"):
        command += ["-p", plugin]
    return subprocess.run(
        [*command, "-p", "no:cacheprovider", "-c", "/dev/null", *arguments, str(directory)],
        cwd=PROJECT, capture_output=True, text=True, timeout=120, check=False,
        # Importing the others takes longer than the tests.
        env={**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
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


@pytest.mark.parametrize("marker", ["slow", "slow()", "timed", "alone"])
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


def test_tests_that_are_alone_follow_each_other_without_others_in_between(tmp_path: Path) -> None:
    lock = ["--lock", str(tmp_path / "lock")]
    more = OTHERS.replace("range(20)", "range(200)")
    runs = [partial(run, tmp_path, "-n", "0", *lock, alone=ALONE)]
    runs.append(partial(run, tmp_path, "-n", "2", "--dist", "loadfile", *lock, others=more))
    with ThreadPoolExecutor() as threads:
        ended = [future.result() for future in [threads.submit(each) for each in runs]]
    assert [each.returncode for each in ended] == [0, 0]
    notes = (tmp_path / "notes").read_text().split()
    kinds = [
        kind for kind, _ in groupby("shared" if note == "shared" else "alone" for note in notes)
    ]
    assert kinds.count("alone") <= 2  # each run may find the file of the other one, too


def test_timed_tests_run_beside_each_other(tmp_path: Path) -> None:
    files = {"one": TIMED_TOGETHER, "two": TIMED_TOGETHER}
    ended = run(tmp_path, "-n", "2", "--dist", "loadfile", **files)
    assert "2 passed" in ended.stdout


def test_no_other_tests_run_beside_those_that_are_timed(tmp_path: Path) -> None:
    ended = run(tmp_path, "-n", "3", "--dist", "loadfile", timed=TIMED, alone=ALONE, others=OTHERS)
    assert "30 passed" in ended.stdout
    notes = (tmp_path / "notes").read_text().split()
    for kind in ("timed-", ""):
        begun = [index for index, note in enumerate(notes) if note == f"{kind}begin"]
        assert [notes[index + 1] for index in begun] == [f"{kind}end"] * 5


def test_what_has_to_be_alone_comes_last_and_long_files_come_first(tmp_path: Path) -> None:
    mixed = "def test_first():\n    note('few')\n" + ALONE
    slow = SLOW.replace("pass", "note('slow')")
    slow += "".join(f"test_{number} = test_slow\n" for number in range(2))
    files = {
        "a_mixed": mixed,
        "b_timed": TIMED,
        "c_others": OTHERS,
        "d_slow": slow,
    }
    order = ["-p", "tests.support.distribution", "-n", "1", "--dist", "loadfile"]
    ended = run(tmp_path, *order, "--slow", **files)
    assert ended.returncode == 0
    notes = (tmp_path / "notes").read_text().split()
    kinds = [kind for kind, _ in groupby(note.partition("-")[0] for note in notes)]
    assert kinds == ["slow", "shared", "few", "timed", *["begin", "end"] * 5]


def test_files_that_use_a_shared_topology_come_first(tmp_path: Path) -> None:
    topology = """
@pytest.fixture
def any_cluster():
    pass

def test_cluster(any_cluster):
    note("cluster")
"""
    order = ["-p", "tests.support.distribution", "-n", "1", "--dist", "loadfile"]
    ended = run(tmp_path, *order, a_others=OTHERS, b_cluster=topology)
    assert ended.returncode == 0
    assert (tmp_path / "notes").read_text().split()[0] == "cluster"


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
