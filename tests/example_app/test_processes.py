"""The example app and its worker as processes, with the settings it comes with."""

from __future__ import annotations

import re
import sys
import textwrap
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
import redis
from psutil import process_iter
from pyramid.exceptions import ConfigurationError
from pyramid.paster import get_appsettings

from example_app import main
from pyramid_baseplate_redis import pool_from_config

from ..support.collector import collector, spans_of
from ..support.link_shortener import (
    ADDRESS,
    APP,
    CLICK,
    PREDIS_WORK,
    WORKER,
    Visitor,
    copied_ini,
    started,
    wait_until,
)
from ..support.servers import Server, free_port, open_sockets_to

GUIDE = (Path(__file__).parents[2] / "docs/guides/tracing.rst").read_text()
SHOWN = textwrap.dedent(re.search(r"code-block:: text\n\n((?:    .*\n)+)", GUIDE)[1])  # type: ignore[index]
SHOWN_TRACES = re.split(r"\n(?=\S)", SHOWN)
# A duration in a trace, whose spaces and full stops may be escaped.
DURATION = r"(?:\\? )+\d+\\?\.\d\d\\? ms"


class TestSettings:
    def test_unknown_place_for_spans_is_an_error(self) -> None:
        with pytest.raises(ConfigurationError, match="'file' is not one of otlp, off"):
            main({}, **{"links.url": "redis://localhost", "tracing": "file"})

    def test_production_has_the_four_settings_of_the_reference(self) -> None:
        settings = get_appsettings(str(APP / "production.ini"))
        pool = pool_from_config(settings, "links.")
        arguments = pool.connection_kwargs
        assert (arguments["host"], arguments["port"], arguments["db"]) == ("localhost", 6379, 0)
        assert pool.max_connections == 99
        assert arguments["socket_connect_timeout"] == 3
        assert arguments["socket_timeout"] == 0.2


def processes_of(directory: Path) -> list[str]:
    """The command lines that name a directory."""
    lines = [" ".join(process.info["cmdline"] or []) for process in process_iter(["cmdline"])]
    return [line for line in lines if str(directory) in line]


@dataclass
class Session:
    """What came of running the app and the worker, and following a link."""

    home: str
    location: str
    top: str
    output: str
    worker_output: str
    left_running: list[str]


@pytest.fixture(scope="class")
def session(tmp_path_factory: pytest.TempPathFactory) -> Session:
    """Run ``pserve development.ini`` and the worker in another directory, and use them."""
    directory = tmp_path_factory.mktemp("pserve")
    port = free_port()
    config = copied_ini("development.ini", directory, {"localhost:6543": f"127.0.0.1:{port}"})
    visitor = Visitor(f"http://127.0.0.1:{port}")
    pserve = str(Path(sys.executable).with_name("pserve"))
    with (
        started([pserve, config], directory) as app,
        started([*PREDIS_WORK, config, *WORKER], directory) as worker,
    ):
        wait_until(lambda: app.process.poll() is not None or open_sockets_to(port))
        assert app.process.poll() is None, app.errors
        _, _, home = visitor.fetch("/")
        (token,) = re.findall('name="csrf_token" value="([^"]+)"', home)
        _, page, _ = visitor.fetch("/", csrf_token=token, url=ADDRESS)
        code = page.rpartition("/")[2]
        _, location, _ = visitor.fetch(f"/{code}")
        visitor.fetch("/static/theme.css")
        wait_until(lambda: "kept a click" in worker.errors)
        _, _, top = visitor.fetch("/top")
        # The span of the last request ends with its body, which may be after it was read.
        wait_until(lambda: "GET /top" in app.output)
        for started_process in (app, worker):
            started_process.process.terminate()
            started_process.process.wait(20)
        with suppress(AssertionError):
            wait_until(lambda: not processes_of(directory / "var"))
        return Session(
            home, location, top, app.output, worker.output, processes_of(directory / "var")
        )


class TestPserve:
    def test_serves_the_page(self, session: Session) -> None:
        assert "<h1>Shorten a link</h1>" in session.home

    def test_has_the_debug_toolbar(self, session: Session) -> None:
        assert 'id="pDebug"' in session.home

    def test_link_is_followed(self, session: Session) -> None:
        assert session.location == ADDRESS

    def test_worker_shares_the_embedded_server(self, session: Session) -> None:
        assert "<time " in session.top

    def test_spans_of_a_request_are_printed_under_it(self, session: Session) -> None:
        for trace in SHOWN_TRACES:
            expected = re.sub(DURATION, lambda _: DURATION, re.escape(trace))
            assert re.search(f"^{expected}", session.output, re.MULTILINE), trace

    def test_spans_of_the_worker_are_printed(self, session: Session) -> None:
        assert "process clicks" in session.worker_output

    def test_static_files_are_not_printed(self, session: Session) -> None:
        assert "/static/" not in session.output

    def test_nothing_is_left_running(self, session: Session) -> None:
        assert session.left_running == []


class TestProduction:
    @pytest.mark.slow("starts pserve")
    def test_spans_are_sent_by_otlp(
        self, tmp_path: Path, valkey: Server, outside: redis.Redis
    ) -> None:
        config = copied_ini("production.ini", tmp_path, {"redis://localhost:6379/0": valkey.url})
        command = [*PREDIS_WORK, config, *WORKER]
        outside.xadd("{clicks}:messages", {"body": CLICK.decode()})
        with (
            collector() as (endpoint, received),
            started(
                command, tmp_path, OTEL_EXPORTER_OTLP_ENDPOINT=endpoint, NO_PROXY="*"
            ) as worker,
        ):
            wait_until(lambda: outside.exists("links:latest"))
            worker.process.terminate()
            worker.process.wait(20)
        names = {span.name for span in spans_of(received)}
        assert {"process clicks", "links.pipeline_keep_click"} <= names
