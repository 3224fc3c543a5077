"""``predis`` shows no password, nor do the command lines of the processes that it starts."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ..support.cli import PREDIS, ROOT, Predis
from ..support.servers import wait_until
from .search import PASSWORD, assert_hidden, found_in
from .ways_in import WAYS, Give

FROM_SETTINGS = [way for way in WAYS if way not in ("keyword argument", "credential provider")]


def in_ini(settings: dict[str, str]) -> dict[str, str]:
    return {key: value.replace("%", "%%") for key, value in settings.items()}


@pytest.mark.parametrize("command", [("check",), ("check", "--json")], ids=" ".join)
@pytest.mark.parametrize("way", FROM_SETTINGS)
def test_check_hides_the_password(
    way: str, command: tuple[str, ...], refusing: str, given: Give, predis: Predis
) -> None:
    predis.write(**in_ini(given(way, refusing).settings))
    ended = predis(*command)
    assert ended.status != 0
    assert "foo" in ended.out
    assert_hidden(ended.out + ended.err)


@pytest.mark.parametrize("options", [(), ("--json",)], ids=" ".join)
def test_check_hides_a_password_that_is_given_in_code(
    options: tuple[str, ...], refusing: str, predis: Predis
) -> None:
    own = {"foo.url": f"redis://{refusing}", "password_in_code": PASSWORD}
    predis.write("in_code", **in_ini(own))
    ended = predis("check", *options)
    assert "foo" in ended.out
    assert_hidden(ended.out + ended.err)


@pytest.mark.parametrize(
    "command",
    [
        ("hotkeys", "foo", "--json"),
        ("top", "foo", "--json", "--count", "1"),
        ("queue", "jobs", "length"),
    ],
    ids=" ".join,
)
@pytest.mark.parametrize("way", ["url", "password_file", "sentinel_password"])
def test_a_command_that_fails_hides_the_password(
    way: str, command: tuple[str, ...], refusing: str, given: Give, predis: Predis
) -> None:
    predis.write(**in_ini(given(way, refusing).settings))
    name, *arguments = command
    ended = predis(name, *arguments)
    assert ended.err or ended.out
    assert_hidden(ended.out + ended.err)


def command_lines(pid: int) -> list[str]:
    """Return the command lines of a process and of its children, as ``ps`` shows them."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    own = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    return [own, *(line for child in children for line in command_lines(int(child)))]


@pytest.mark.skipif(not Path("/proc/self/cmdline").exists(), reason="needs Linux's /proc")
@pytest.mark.parametrize("way", ["url", "url_env"])
def test_no_command_line_of_a_worker_shows_the_password(
    way: str, accepting: str, given: Give, predis: Predis, tmp_path: Path
) -> None:
    predis.write(**in_ini(given(way, accepting).settings), jobs__durable="true")
    handler = "tests.support.cli_handlers:count"
    command = [str(PREDIS), "work", str(predis.ini), "jobs", handler, "--processes", "2"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with (
        (tmp_path / "log").open("w") as log,
        subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=log) as process,
    ):
        try:
            wait_until(lambda: len(command_lines(process.pid)) > 2, 20)
            lines = "\n".join(command_lines(process.pid))
        finally:
            process.terminate()
            process.wait(20)
    assert "--parent-pipe" in lines
    assert_hidden(lines)
    assert_hidden((tmp_path / "log").read_text())


@pytest.mark.skipif(not Path("/proc/self/cmdline").exists(), reason="needs Linux's /proc")
def test_a_password_on_a_command_line_is_noticed() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", "input()", PASSWORD], stdin=subprocess.PIPE
    ) as process:
        wait_until(lambda: "input()" in command_lines(process.pid)[0])
        lines = "\n".join(command_lines(process.pid))
        process.kill()
    assert found_in(lines)
