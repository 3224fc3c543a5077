"""docs/guides/testing.rst keeps its word."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


TEXT = (ROOT / "docs/guides/testing.rst").read_text()


def blocks() -> list[str]:
    found = re.findall(r"\.\. code-block:: python\n\n((?:    .*\n|\n)+)", TEXT)
    return [re.sub(r"^    ", "", block, flags=re.MULTILINE) for block in found]


def write_example(directory: Path) -> None:
    """Write the complete example into a directory."""
    names = ("visits.py", "conftest.py", "test_visits.py")
    for name, block in zip(names, blocks()[: len(names)], strict=True):
        (directory / name).write_text(block)
    (directory / "pytest.ini").write_text("[pytest]\npythonpath = .\n")


def run_pytest(directory: Path, *arguments: str) -> str:
    kept = {key: os.environ[key] for key in ("PATH", "HOME", "TMPDIR") if key in os.environ}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *arguments],
        cwd=directory, env=kept, capture_output=True, text=True, timeout=240, check=False,
    )  # fmt: skip
    return done.stdout + done.stderr


@pytest.fixture
def example(tmp_path: Path) -> Path:
    write_example(tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> str:
    """One run of the complete test and the unit test, with a line for each test."""
    directory = tmp_path_factory.mktemp("example")
    write_example(directory)
    (block,) = [block for block in blocks() if "class TestHome" in block]
    imports = (
        "import unittest\nfrom pyramid import testing\nfrom visits import home\n"
        "from pyramid_baseplate_redis.testing import add_clients, flush\n\n"
    )
    (directory / "test_unit.py").write_text(imports + block)
    return run_pytest(directory, "-rA")


class TestDocument:
    """docs/guides/testing.rst keeps its word."""

    def test_its_complete_test_passes(self, report: str) -> None:
        assert "7 passed" in report
        assert report.count("\nPASSED test_visits.py::") == 6

    def test_its_complete_test_can_fail(self, example: Path) -> None:
        view = (example / "visits.py").read_text()
        (example / "visits.py").write_text(view.replace("visits == 1", "visits == 2"))
        assert "3 failed, 3 passed" in run_pytest(example)

    def test_its_unit_test_passes(self, report: str) -> None:
        assert report.count("\nPASSED test_unit.py::") == 1

    def test_settings_that_stay_pass_through_a_whole_run_of_a_project(self, example: Path) -> None:
        (ini,) = re.findall(r"\.\. code-block:: ini\n\n((?:    .*\n|\n)+)", TEXT)
        text = re.sub(r"^    ", "", ini, flags=re.MULTILINE)
        (example / "pytest.ini").write_text(f"{text.rstrip()}\npythonpath = .\n")
        assert "6 passed" in run_pytest(example)
