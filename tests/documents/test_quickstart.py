"""The quickstart and the installation: their commands are typed, and show what the pages say."""

from __future__ import annotations

import re
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pyramid_baseplate_redis import __version__

from ..support.servers import free_port, open_sockets_to, wait_until
from .walkthrough import ROOT, START, Block, Page, Project, masked

PAGE = Page(START / "quickstart.rst")
INSTALLATION = Page(START / "installation.rst")
# The environment of the tests has the packages.
SET_UP = ["mkdir visits", "cd visits", "python3 -m venv .venv", ". .venv/bin/activate"]
FIRST, SECOND, TESTS = PAGE.files
VISITS, FIRST_TRACE, SECOND_TRACE, PASSED = PAGE.shown("text")


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path, {"8080": str(free_port())})


@contextmanager
def running(project: Project, application: Block) -> Iterator[None]:
    """Write the application and start it; it prints to the file ``output``."""
    text = application.text.replace('"localhost", 8080', f'"127.0.0.1", {port(project)}')
    (project.directory / application.file).write_text(text)
    with (project.directory / "output").open("w") as output:
        process = subprocess.Popen(
            [sys.executable, *PAGE.command("python visits.py").split()[1:]],
            cwd=project.directory, env=project.environment, stdout=output,
            stderr=subprocess.DEVNULL,
        )  # fmt: skip
    try:
        wait_until(lambda: open_sockets_to(port(project)), 30)
        yield
    finally:
        process.terminate()
        process.wait(30)


def port(project: Project) -> int:
    return int(project.replaced("localhost:8080").partition(":")[2])


def visit(project: Project) -> str:
    """What the page's ``curl`` prints."""
    address = PAGE.command("curl ").removeprefix("curl ")
    with urllib.request.urlopen(project.replaced(address), timeout=30) as response:
        return str(response.read().decode())


def traces(project: Project) -> str:
    return masked((project.directory / "output").read_text())


def test_the_first_application_shows_its_visits_and_a_trace(project: Project) -> None:
    with running(project, FIRST):
        visits = [visit(project) for line in PAGE.commands if line.startswith("curl")]
        wait_until(lambda: traces(project).count("GET /") == len(visits))

    assert "".join(visits) + "\n" == VISITS
    assert traces(project) == masked(FIRST_TRACE) * len(visits)


def test_a_pipeline_is_one_line_of_the_trace(project: Project) -> None:
    with running(project, SECOND):
        visit(project)
        wait_until(lambda: "GET /" in traces(project))

    assert traces(project) == masked(SECOND_TRACE)


def test_the_tests_pass_with_the_pipeline_and_not_before(project: Project) -> None:
    project.write(TESTS)
    project.write(SECOND)
    passed = masked(project.run(PAGE.command("pytest")).stdout).splitlines()
    assert [passed[0], passed[-1]] == masked(PASSED).splitlines()  # WebOb's warning is between

    project.write(FIRST)
    with pytest.raises(AssertionError, match=r"(?s)store\.EXPIRE.*1 failed, 1 passed"):
        project.run(PAGE.command("pytest"))


def test_the_changed_lines_are_highlighted() -> None:
    first = FIRST.text.splitlines()
    lines = SECOND.text.splitlines()

    assert [lines[number - 1] for number in SECOND.emphasized] == [
        line for line in lines if line not in first
    ]


def test_each_command_of_the_page_is_run_here() -> None:
    typed = [*SET_UP, "pip install ", "python visits.py", "curl ", "pytest -q"]

    assert [line for line in PAGE.commands if not line.startswith(tuple(typed))] == []


def test_the_installation_is_checked_with_the_version(project: Project) -> None:
    done = project.run(INSTALLATION.command("python -c"))

    assert done.stdout == f"{__version__}\n"


@pytest.mark.parametrize("page", [PAGE, INSTALLATION], ids=lambda page: page.name)
def test_the_extras_exist(page: Page) -> None:
    named = {
        name for names in re.findall(r"redis\[([\w,]+)\]", page.text) for name in names.split(",")
    }
    named |= set(re.findall(r"^``(\w+)`` ", page.text, re.MULTILINE))
    extras = set(re.findall(r"^(\w+) = \[", (ROOT / "pyproject.toml").read_text(), re.MULTILINE))

    assert named <= extras
