"""The tutorial: its steps are followed, and show what the pages say."""

from __future__ import annotations

import difflib
import re
import subprocess
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from ..support.servers import free_port, open_sockets_to, wait_until
from .board_visitor import HIDDEN, SEES, SHOWN, VISITS
from .walkthrough import AT_THE_END, START, Page, Project, masked

TUTORIAL = START / "tutorial"
VISITOR = Path(__file__).with_name("board_visitor.py")
STEPS = ["board", "likes", "sessions", "caching", "queue", "health", "tests", "deployment"]
PAGES = {step: Page(TUTORIAL / f"{step}.rst") for step in STEPS}
# What the tests do differently: their environment has the packages, and they visit with WebTest.
SET_UP = [
    "mkdir board",
    "cd board",
    "python3 -m venv .venv",
    ". .venv/bin/activate",
    "pip install '/path/to/pyramid_baseplate_redis[cli,dev,embedded,testing]'",
    "mkdir -p board/templates",
    "pip install -e '.[test]'",
    "mkdir tests",
    "pserve outage.ini",
]
CURL = "curl "
Build = Callable[[str], Project]


@pytest.fixture
def build(tmp_path: Path) -> Build:
    """Make a project as the pages up to a step say."""

    def build(last: str) -> Project:
        project = Project(tmp_path, {"6543": str(free_port()), "8000": str(free_port())})
        for step in STEPS[: STEPS.index(last) + 1]:
            for block in PAGES[step].files:
                project.write(block)
            if step == "sessions":
                project.run(PAGES[step].command("python -c"))
            if step == "tests":
                project.run(PAGES[step].command("touch"))
        return project

    return build


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start a command of a page that runs until it is stopped; its output goes to a file."""
    with ExitStack() as stack:

        def start(project: Project, command: str, log: str) -> subprocess.Popen[str]:
            file = stack.enter_context((tmp_path / log).open("w"))
            process = stack.enter_context(
                subprocess.Popen(
                    f"exec {project.replaced(command)}", shell=True, cwd=project.directory,
                    env=project.environment, stdin=subprocess.DEVNULL, stdout=file, stderr=file,
                    text=True,
                )
            )  # fmt: skip
            stack.callback(process.kill)
            return process

        yield start


def wait_for(path: Path, words: str) -> str:
    """What a file has written when it has the words."""
    wait_until(lambda: words in path.read_text(), 30)
    return path.read_text()


@pytest.mark.parametrize("step", VISITS)
def test_each_step_shows_what_its_page_says(step: str, build: Build) -> None:
    page = PAGES[step]
    project = build(step)

    out = project.run(f"python {VISITOR} {step}").stdout

    visible = re.findall(rf"^{re.escape(SHOWN)}\n(.*?)^{re.escape(HIDDEN)}\n", out, re.M | re.S)
    traces = [text for text in visible if not text.startswith("{")]
    documents = [text for text in visible if text.startswith("{")]
    expected = page.shown("text")[: 1 if step == "queue" else None]
    assert masked("".join(traces)) == masked("".join(expected))
    assert [masked(text) for text in documents] == [masked(text) for text in page.shown("json")]
    for words in re.findall(rf"^{re.escape(SEES)}(.*)$", out, re.M):
        assert f'"{words}"' in page.text


def test_the_board_is_served(build: Build, start: Callable[..., subprocess.Popen[str]]) -> None:
    project = build("board")

    process = start(project, PAGES["board"].command("pserve"), "pserve.log")
    address = project.replaced("http://localhost:6543")
    wait_until(lambda: bool(open_sockets_to(int(address.rpartition(":")[2]))), 30)
    with urllib.request.urlopen(address, timeout=10) as response:
        page = response.read().decode()
    process.terminate()

    assert "No messages yet." in page


@pytest.mark.slow("starts the application again and again, and a worker")
def test_the_worker_sends_the_mail(
    build: Build, start: Callable[..., subprocess.Popen[str]], tmp_path: Path
) -> None:
    page = PAGES["queue"]
    project = build("queue")
    project.run(f"python {VISITOR} queue")

    worker = start(project, page.command("predis work"), "worker.log")
    log = wait_for(tmp_path / "worker.log", "processed in")
    worker.terminate()

    assert worker.wait(30) == 0
    for line in page.shown("text")[1].splitlines():
        assert masked(line) in masked(log).splitlines()
    assert "length" in project.run(page.command("predis queue development.ini mails stats")).stdout
    dead = project.run(page.command("predis queue development.ini mails dead"))
    assert "there are no dead letters" in dead.stdout


def test_the_tests_of_the_tutorial_pass(build: Build) -> None:
    page = PAGES["tests"]

    lines = masked(build("tests").run(page.command("pytest")).stdout).splitlines()

    assert [lines[0], lines[-1]] == masked(page.shown("text")[0]).splitlines()


@pytest.mark.slow("starts gunicorn and workers")
def test_the_board_is_deployed(
    build: Build, start: Callable[..., subprocess.Popen[str]], tmp_path: Path
) -> None:
    page = PAGES["deployment"]
    project = build("deployment")
    for line in page.commands:
        if line.startswith("export"):
            name, _, value = line.removeprefix("export ").partition("=")
            project.environment[name] = value.strip('"').replace("$PWD", str(tmp_path))

    assert "mails: ok" in project.run(page.command("predis check")).stdout
    project.run(f"python {VISITOR} queue")
    gunicorn = start(project, page.command("gunicorn"), "gunicorn.log")
    worker = start(project, page.command("predis work"), "worker.log")
    failure, status = page.shown("text")
    log = wait_for(tmp_path / "worker.log", "ConnectionRefusedError")
    assert masked(failure) in masked(log)
    worker.terminate()
    assert worker.wait(30) == 0
    settings = (tmp_path / "production.ini").read_text()
    (tmp_path / "production.ini").write_text(re.sub("mail.host.*", "", settings))
    worker = start(project, page.command("predis work"), "second_worker.log")
    wait_for(tmp_path / "second_worker.log", "Message 1 on the board")
    address = project.replaced("http://localhost:8000/health/redis")
    wait_until(lambda: bool(open_sockets_to(int(address.split(":")[2].split("/")[0]))), 30)
    with urllib.request.urlopen(address, timeout=10) as response:
        assert f"{response.status}\n" == status
    for process in (gunicorn, worker):
        process.terminate()

    assert (gunicorn.wait(30), worker.wait(30)) == (0, 0)


def test_each_command_of_the_pages_is_run_here() -> None:
    text = Path(__file__).read_text()
    starts = re.findall(r'command\("([^"]+)"\)', text)

    left = [
        line
        for page in PAGES.values()
        for line in page.commands
        if line not in SET_UP and not line.startswith((CURL, "export ", *starts))
    ]

    assert left == []


def test_the_changed_lines_are_highlighted() -> None:
    written: dict[str, list[str]] = {}
    for page in PAGES.values():
        for block in page.files:
            lines = block.text.splitlines()
            if block.caption.endswith(AT_THE_END):
                continue
            before = written.get(block.file)
            written[block.file] = lines
            changes = difflib.SequenceMatcher(None, before or lines, lines, autojunk=False)
            changed = [
                number + 1
                for kind, _, _, first, last in changes.get_opcodes()
                if kind != "equal"
                for number in range(first, last)
                if lines[number]
            ]
            emphasized = [number for number in block.emphasized if lines[number - 1]]
            assert emphasized == changed, f"{page.name}: {block.file}"


def test_each_file_of_the_code_is_shown() -> None:
    pages = "".join(page.text for page in PAGES.values())
    files = {
        str(path.relative_to(TUTORIAL))
        for path in (TUTORIAL / "code").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts and path.stat().st_size
    }

    assert files == set(re.findall(r"literalinclude:: (\S+)", pages))
