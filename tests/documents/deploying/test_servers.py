"""Each server with the configuration of its page: under load, when it stops, when it reloads."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from ...support.collector import collector
from ...support.servers import Server, wait_until
from .deployment import PASSWORD, Application, Exports, fetch, program, served, spans_by_process

pytestmark = pytest.mark.slow("starts each server")

REQUESTS = 200
# Its own script: to reload, uWSGI executes itself anew.
UWSGI = [shutil.which("uwsgi", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}") or ""]
needs_uwsgi = pytest.mark.skipif(
    importlib.util.find_spec("pyuwsgi") is None or UWSGI == [""],
    reason="needs uWSGI (pip install pyuwsgi)",
)
GUNICORN = [program("gunicorn"), "--config"]
INI = ["--paste", "production.ini"]
GTHREAD = [*GUNICORN, "gunicorn.conf.py", *INI]


@dataclass(frozen=True)
class Setup:
    """A server's command line, and what its page says about it."""

    command: list[str]
    stop: signal.Signals = signal.SIGTERM
    processes: int = 2
    connections: int = 8  # of each process
    under_way: int = 6


SERVERS: list[Any] = [
    pytest.param(Setup(GTHREAD), id="gthread"),
    pytest.param(
        Setup(
            [*GTHREAD, "--worker-class", "sync", "--threads", "1"], connections=1, under_way=2
        ),
        id="sync",
    ),
    pytest.param(
        Setup([*GUNICORN, "gunicorn.gevent.conf.py", *INI], connections=10), id="gevent"
    ),
    pytest.param(
        Setup([*GUNICORN, "gunicorn.preload.conf.py", "--paste", "production.ini#preloaded"]),
        id="preload",
    ),
    pytest.param(
        Setup([program("pserve"), "production.ini"], stop=signal.SIGINT, processes=1),
        id="waitress",
    ),
    pytest.param(Setup([*UWSGI, "--ini", "uwsgi.ini"]), id="uwsgi", marks=needs_uwsgi),
    pytest.param(
        Setup([*UWSGI, "--ini", "uwsgi.prefork.ini"]), id="uwsgi-prefork", marks=needs_uwsgi
    ),
]  # fmt: skip


@dataclass
class Session:
    """The results of a load and a stop, after the server has ended."""

    setup: Setup
    answers: list[dict[str, int]]
    connections: int
    health: dict[str, Any]
    last_answers: list[dict[str, int]]
    lost: list[BaseException]
    status: int
    received: Exports
    output: str


def finished(app: Application, setup: Setup, received: Exports) -> Session:
    app.meet(setup.processes)
    app.visit(REQUESTS, at_once=16)
    connections = app.connections()
    health = fetch(app.port, "/health/redis")
    with app.requests_under_way(setup.under_way) as requests:
        app.signal(setup.stop)
    lost = [error for request in requests if (error := request.exception(30))]
    last = [request.result() for request in requests if not request.exception()]
    status = app.process.wait(30)
    output = app.output.read_text()
    return Session(setup, app.answers, connections, health, last, lost, status, received, output)


@pytest.fixture(scope="module", params=SERVERS)
def session(
    request: pytest.FixtureRequest, guarded: Server, tmp_path_factory: pytest.TempPathFactory
) -> Session:
    setup: Setup = request.param
    directory = tmp_path_factory.mktemp("served")
    with (
        collector() as (endpoint, received),
        served(setup.command, directory, guarded, endpoint) as app,
    ):
        return finished(app, setup, received)


def test_every_process_answers(session: Session) -> None:
    processes = {answer["process"] for answer in session.answers}
    assert len(processes) == session.setup.processes
    # Each visit was counted once: no process has read the reply of another one.
    assert len({answer["visits"] for answer in session.answers}) == len(session.answers)


def test_a_thread_needs_one_connection(session: Session) -> None:
    most = session.setup.connections * session.setup.processes
    assert session.setup.processes <= session.connections <= most


def test_the_readiness_probe_succeeds(session: Session) -> None:
    assert session.health["status"] == "ok"


def test_a_stop_loses_no_request_that_was_begun(session: Session) -> None:
    assert session.lost == []
    assert len({answer["visits"] for answer in session.last_answers}) == session.setup.under_way
    assert session.status == 0


def test_every_process_exports_all_its_spans_before_it_ends(session: Session) -> None:
    answers = Counter(answer["process"] for answer in session.answers + session.last_answers)
    assert spans_by_process(session.received, "GET /") == answers
    assert spans_by_process(session.received, "foo.INCRBY") == answers


def test_no_password_is_shown(session: Session) -> None:
    # It has to be the right output: the application has logged its clients there.
    assert "Redis clients: foo (the URL of foo.url_env)" in session.output
    assert PASSWORD not in session.output
    assert PASSWORD not in str(session.received)


def test_no_server_writes_a_traceback(session: Session) -> None:
    assert re.findall("Traceback|MonkeyPatchWarning", session.output) == []


def reload_by_signal(app: Application) -> None:
    app.process.send_signal(signal.SIGHUP)


def reload_by_touch(app: Application) -> None:
    (app.code / "production.ini").touch()


@pytest.mark.parametrize(
    ("command", "reload"),
    [
        pytest.param(GTHREAD, reload_by_signal, id="gthread"),
        pytest.param(
            [*UWSGI, "--ini", "uwsgi.ini"], reload_by_touch, id="uwsgi", marks=needs_uwsgi
        ),
    ],
)
def test_a_reload_loses_no_request_and_replaces_the_processes(
    command: list[str], reload: Callable[[Application], None], guarded: Server, tmp_path: Path
) -> None:
    with collector() as (endpoint, _), served(command, tmp_path, guarded, endpoint) as app:
        app.meet(2)
        before = {answer["process"] for answer in app.answers}
        with app.requests_under_way(6) as requests:
            reload(app)
            time.sleep(2)  # the processes notice it while the requests are under way
        assert {request.result(30)["process"] for request in requests} <= before

        def are_replaced() -> bool:
            app.answers.clear()
            app.visit(8)
            return before.isdisjoint({answer["process"] for answer in app.answers})

        wait_until(are_replaced, 60)
