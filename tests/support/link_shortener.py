"""The example app: its form, its .ini files, its processes."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urlencode
from urllib.request import HTTPCookieProcessor, HTTPRedirectHandler, ProxyHandler, build_opener

from webtest import TestApp, TestResponse

APP = Path(__file__).parents[2] / "example_app"
ADDRESS = "https://example.com/a/long/way"
PREDIS_WORK = [str(Path(sys.executable).with_name("predis")), "work"]
WORKER = ["clicks", "example_app.worker:handle"]
CLICK = b'{"code": "abc234", "at": "2026-11-23T10:20:30+00:00"}'


def submit(browser: TestApp, address: str, status: int = 303) -> TestResponse:
    form = browser.get("/").form
    form["url"] = address
    return form.submit(status=status)


def made_link(browser: TestApp, address: str = ADDRESS) -> str:
    """Make a link through the form and return its code."""
    return str(submit(browser, address).location.rpartition("/")[2])


def wait_until(true: Callable[[], object], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


EMBEDDED = "embedded://%(here)s/var"


def copied_ini(name: str, directory: Path, replaced: dict[str, str]) -> str:
    """Copy an .ini file of the app, with some of its text replaced; its path."""
    text = (APP / name).read_text()
    for old, new in replaced.items():
        assert old in text
        text = text.replace(old, new)
    (directory / name).write_text(text)
    return str(directory / name)


class Started:
    """A process, and what it wrote so far."""

    def __init__(self, process: subprocess.Popen[bytes], output: Path, errors: Path) -> None:
        self.process = process
        self._output, self._errors = output, errors

    @property
    def output(self) -> str:
        return self._output.read_text()

    @property
    def errors(self) -> str:
        return self._errors.read_text()


@contextmanager
def started(command: list[str], directory: Path, **environment: str) -> Iterator[Started]:
    """Start a command in a directory; it is killed at the end unless it has ended."""
    name = Path(command[-1]).stem + str(len(list(directory.glob("*.out"))))
    output, errors = directory / f"{name}.out", directory / f"{name}.err"
    with output.open("wb") as out, errors.open("wb") as err:
        process = subprocess.Popen(
            command, cwd=directory, stdout=out, stderr=err, env={**os.environ, **environment}
        )
    try:
        yield Started(process, output, errors)
    finally:
        process.kill()
        process.wait()


class Visitor:
    """A browser that keeps cookies, follows no redirect and uses no proxy."""

    def __init__(self, base: str) -> None:
        self._base = base
        self._opener = build_opener(ProxyHandler({}), HTTPCookieProcessor(), _Redirects())

    def fetch(self, path: str, **form: str) -> tuple[int, str, str]:
        """The answer's status, ``Location`` and body."""
        data = urlencode(form).encode() if form else None
        try:
            answer = self._opener.open(self._base + path, data, timeout=20)
        except HTTPError as error:
            answer = error
        with answer:
            return answer.status, answer.headers.get("Location", ""), answer.read().decode()


class _Redirects(HTTPRedirectHandler):
    def redirect_request(self, *args: Any) -> None:
        return None
