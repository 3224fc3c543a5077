"""The README keeps its word: its first application runs, its commands and versions are complete."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from packaging.version import Version

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.rst").read_text()


def code_block(heading: str, language: str) -> str:
    """The first code block of that language under a heading."""
    section = README.split(f"\n{heading}\n{'-' * len(heading)}\n")[1]
    lines = section.split(f".. code-block:: {language}\n\n")[1].split("\n")
    block = []
    for line in lines:
        if line and not line.startswith("    "):
            break
        block.append(line[4:])
    return "\n".join(block)


def test_the_first_application_shows_its_first_trace(tmp_path: Path) -> None:
    (tmp_path / "visits.py").write_text(code_block("A first application", "python"))
    visit = (
        "import json, visits; from webtest import TestApp;"
        "app = TestApp(visits.config.make_wsgi_app());"
        "print(json.dumps(app.get('/').json)); print(json.dumps(app.get('/').json))"
    )

    done = subprocess.run(
        [sys.executable, "-c", visit], cwd=tmp_path, capture_output=True, text=True, timeout=60
    )

    assert done.returncode == 0, done.stderr
    trace = re.escape(code_block("A first application", "text").strip("\n"))
    trace = re.sub(r"(?:\\ )+\d+\\\.\d\d\\ ms", r" +\\d+\\.\\d\\d ms", trace)
    visits = r'\{"visits": %d\}'
    assert re.fullmatch(f"{trace}\n{visits % 1}\n{trace}\n{visits % 2}\n", done.stdout)


def test_the_first_application_has_some_15_lines() -> None:
    block = code_block("A first application", "python")

    assert len([line for line in block.split("\n") if line]) <= 15


def lowest_tested() -> dict[str, Version]:
    pins = re.findall(r"^([\w-]+)==([\d.]+)$", (ROOT / ".ci/lowest.txt").read_text(), re.MULTILINE)
    return {name: Version(version) for name, version in pins}


def test_the_lowest_versions_that_are_allowed_are_those_that_are_tested() -> None:
    allowed = re.findall(
        r'"([\w-]+)(?:\[\w+\])?>=([\d.]+)[",]', (ROOT / "pyproject.toml").read_text()
    )
    lowest = {name: Version(version) for name, version in allowed if name != "pytest"}

    assert lowest.keys() >= {"redis", "pyramid", "opentelemetry-api", "opentelemetry-sdk"}
    assert lowest == {name: lowest_tested().get(name) for name in lowest}


@pytest.mark.parametrize(
    ("package", "name"),
    [("redis", "redis-py"), ("pyramid", "Pyramid"), ("opentelemetry-api", "OpenTelemetry")],
)
def test_the_lowest_versions_that_are_tested_are_named(package: str, name: str) -> None:
    (sentence,) = re.findall(r"oldest supported\s+releases, [^(]+", README)

    named = re.findall(rf"{name} ([\d.]*\d)", sentence)

    assert [Version(version) for version in named] == [lowest_tested()[package]]


@pytest.mark.parametrize("extra", ["example", "test"])
def test_each_of_the_two_commands_stands_there_once(extra: str) -> None:
    lines = [line for line in README.split("\n") if f"'.[{extra}]'" in line]

    assert len(lines) == 1
    assert lines[0].startswith(
        f"    python3 -m venv .venv && .venv/bin/pip install -e '.[{extra}]'"
    )


def test_it_is_the_first_page_and_not_the_only_one() -> None:
    assert len(README.splitlines()) <= 200
