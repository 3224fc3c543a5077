"""The failure drill in docs/deploying/operations.rst, step by step, with a real server."""

from __future__ import annotations

import os
import re
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from ..support.link_shortener import (
    ADDRESS,
    EMBEDDED,
    Started,
    Visitor,
    copied_ini,
    started,
    wait_until,
)
from ..support.servers import Server, free_port, open_sockets_to, running_server

pytestmark = pytest.mark.slow("each drill waits for timeouts of 5 seconds")

PAGE = (Path(__file__).parents[2] / "docs/deploying/operations.rst").read_text()
PSERVE = str(Path(sys.executable).with_name("pserve"))


def blocks(language: str) -> list[str]:
    """The code blocks of the page's drill, without their indentation."""
    drill = PAGE.split("\nFailure drill\n")[1]
    found = re.findall(rf"\.\. code-block:: {language}\n\n((?:    .*\n|\n)+)", drill)
    return [re.sub("^    ", "", block, flags=re.MULTILINE) for block in found]


SETTINGS = blocks("ini")[0].splitlines()
ANSWERED, KILLED, FROZEN = blocks("text")


@dataclass
class Drill:
    """The application, its Redis, and a link to follow."""

    app: Started
    server: Server
    base: str
    link: str

    def follow(self) -> tuple[int, float]:
        """Follow the link: the status, and how many seconds it took."""
        begun = time.monotonic()
        status, _, _ = Visitor(self.base).fetch(self.link)
        return status, time.monotonic() - begun

    def follow_three_times(self) -> list[tuple[int, float]]:
        """Follow it half a second apart, as the page's loop does."""
        answers: list[tuple[int, float]] = [(0, 0.0)] * 3

        def follow(number: int) -> None:
            answers[number] = self.follow()

        threads = [threading.Thread(target=follow, args=(number,)) for number in range(3)]
        for thread in threads:
            thread.start()
            time.sleep(0.5)
        for thread in threads:
            thread.join()
        return answers

    @contextmanager
    def frozen(self) -> Iterator[None]:
        process = self.server.executor.process
        assert process is not None
        os.kill(process.pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(process.pid, signal.SIGCONT)

    def shows(self, block: str) -> None:
        """Wait until each line of the page's block was printed or logged, numbers aside."""
        for line in block.splitlines():
            shown = re.compile(pattern_of(line), re.MULTILINE)
            wait_until(lambda shown=shown: shown.search(self.app.output + self.app.errors))


def pattern_of(line: str) -> str:
    """A pattern of the lines that differ from one of the page in durations and addresses only."""
    pool = line.startswith("pool ")
    text = re.escape(line).replace("RUmXpd", r"\w+").replace(r"localhost:6379", r"127.0.0.1:\d+")
    if not pool:
        text = re.sub(r"(\\ )+\d+\\\.\d\d\\ ms", r" +\\d+\\.\\d\\d ms", text)
        text = re.sub(r"waited\\ \d+", r"waited\\ \\d+", text)
        text = re.sub(r":18\\\]", r":\\d+\\]\\S*", text)
    return ("^" if not text.startswith("ERROR") else "") + text + "$"


@contextmanager
def drill(directory: Path, settings: list[str]) -> Iterator[Drill]:
    """Do what the page says under *Prepare*, on free ports."""
    port = free_port()
    with running_server("valkey", directory, "--appendonly", "yes") as server:
        ini = "\n".join(line for line in settings if not line.startswith("metrics"))
        replaced = {
            f"links.url = {EMBEDDED}": ini.replace("redis://localhost:6379/0", server.url),
            "metrics = off": "metrics = console",
            "localhost:6543": f"127.0.0.1:{port}",
        }
        config = copied_ini("development.ini", directory, replaced)
        with started([PSERVE, config], directory) as app:
            wait_until(lambda: app.process.poll() is not None or open_sockets_to(port))
            assert app.process.poll() is None, app.errors
            base = f"http://127.0.0.1:{port}"
            visitor = Visitor(base)
            _, _, home = visitor.fetch("/")
            (token,) = re.findall('name="csrf_token" value="([^"]+)"', home)
            _, page, _ = visitor.fetch("/", csrf_token=token, url=ADDRESS)
            yield Drill(app, server, base, "/" + page.rpartition("/")[2])


def test_drill_goes_as_the_page_says(tmp_path: Path) -> None:
    with drill(tmp_path, SETTINGS) as it:
        assert it.follow()[0] == 302
        it.shows(ANSWERED)

        it.server.kill()
        status, seconds = it.follow()
        assert status == 503
        assert seconds < 1
        assert Visitor(it.base).fetch("/")[0] == 200
        it.shows(KILLED)

        it.server.restart()
        assert it.follow()[0] == 302

        with it.frozen():
            answers = it.follow_three_times()
        assert [status for status, _ in answers] == [503] * 3
        first, second, third = (seconds for _, seconds in answers)
        assert 4.9 < first < 7
        assert 4.9 < second < 7
        assert 0.9 < third < 3
        it.shows(FROZEN)

        assert it.follow()[0] == 302


def test_by_default_the_third_request_waits_for_the_sum_of_two_timeouts(tmp_path: Path) -> None:
    settings = [line for line in SETTINGS if "pool_timeout" not in line]
    with drill(tmp_path, settings) as it:
        assert it.follow()[0] == 302
        with it.frozen():
            answers = it.follow_three_times()
        assert [status for status, _ in answers] == [503] * 3
        assert 8.5 < answers[2][1] < 11
        assert it.app.errors.count("TimeoutError: links: Timeout") == 3
        assert "PoolTimeoutError" not in it.app.errors + it.app.output
