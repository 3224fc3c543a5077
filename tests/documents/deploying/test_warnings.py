"""The pages warn of ways to lose requests. Each warning is still true of the installed versions."""

from __future__ import annotations

import signal
from collections.abc import Sequence
from pathlib import Path

import pytest

from ...support.collector import collector
from ...support.servers import Server
from .deployment import program, served
from .test_servers import GTHREAD, GUNICORN, UWSGI, needs_uwsgi

pytestmark = pytest.mark.slow("starts each server")


def lost_requests(
    command: Sequence[str],
    directory: Path,
    server: Server,
    stop: signal.Signals,
    *,
    processes: int = 2,
    begun: int | None = None,
) -> list[BaseException]:
    """Return the errors of six requests that are sent before the server is stopped."""
    with (
        collector() as (endpoint, _),
        served(command, directory, server, endpoint) as app,
    ):
        app.meet(processes)
        with app.requests_under_way(6, begun=begun) as requests:
            app.signal(stop)
        errors = [error for request in requests if (error := request.exception(30))]
        app.process.wait(30)
    return errors


def test_pserve_loses_requests_on_sigterm(guarded: Server, tmp_path: Path) -> None:
    command = [program("pserve"), "production.ini"]
    assert len(lost_requests(command, tmp_path, guarded, signal.SIGTERM, processes=1)) == 6


@needs_uwsgi
def test_uwsgi_loses_requests_on_sigint(guarded: Server, tmp_path: Path) -> None:
    command = [*UWSGI, "--ini", "uwsgi.ini"]
    assert len(lost_requests(command, tmp_path, guarded, signal.SIGINT)) == 6


def test_sync_workers_lose_requests_that_they_have_not_begun(
    guarded: Server, tmp_path: Path
) -> None:
    command = [*GTHREAD, "--worker-class", "sync", "--threads", "1"]
    assert len(lost_requests(command, tmp_path, guarded, signal.SIGTERM, begun=2)) == 4


def test_gevent_patches_too_late_with_a_preloaded_application(
    guarded: Server, tmp_path: Path
) -> None:
    preload = [*GUNICORN, "gunicorn.preload.conf.py", "--paste", "production.ini#preloaded"]
    with (
        collector() as (endpoint, _),
        served([*preload, "--worker-class", "gevent"], tmp_path, guarded, endpoint) as app,
    ):
        app.meet(1)
        assert "MonkeyPatchWarning" in app.output.read_text()
