"""embedded:// servers under pserve --reload: the data is kept, and no server is left."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from urllib.request import urlopen

import psutil
import pytest
from mirakuru import HTTPExecutor

from ...support.servers import free_port
from .conftest import SECONDS, processes_below, servers_below, still_there

pytestmark = pytest.mark.slow("starts pserve --reload")

APPLICATION = '''
"""An application that counts its requests, in a directory and in memory."""

import os

from pyramid.config import Configurator


def count(request):
    counts = [request.foo.incr("n"), request.bar.incr("n")]
    return {"foo": counts[0], "bar": counts[1], "pid": os.getpid()}


def main(global_config, **settings):
    config = Configurator(settings=settings)
    config.include("pyramid_baseplate_redis")
    config.add_route("count", "/count")
    config.add_view(count, route_name="count", renderer="json")
    return config.make_wsgi_app()
'''
INI = """
[app:main]
use = call:counting_app:main
foo.url = embedded://{directory}/data
bar.url = embedded://

[server:main]
use = egg:waitress#main
listen = 127.0.0.1:{port}
"""


@dataclass
class Reload:
    """What was seen of an application under ``pserve --reload``, and of its servers."""

    before: dict[str, int]
    after: dict[str, int]
    old_in_memory: list[psutil.Process]  # still there after the reload
    servers: list[psutil.Process]  # after the reload
    left: list[psutil.Process]  # after everything


@pytest.fixture(scope="module")
def reload(tmp_path_factory: pytest.TempPathFactory) -> Reload:
    """Count, change the application's file, count again, and stop."""
    directory = tmp_path_factory.mktemp("pserve")
    (directory / "tmp").mkdir()
    application = directory / "counting_app.py"
    application.write_text(APPLICATION)
    port = free_port()
    ini = directory / "counting.ini"
    ini.write_text(INI.format(directory=directory, port=port))

    def count() -> dict[str, int]:
        with urlopen(f"http://127.0.0.1:{port}/count", timeout=30) as response:
            return dict(json.load(response))

    with HTTPExecutor(
        [sys.executable, "-m", "pyramid.scripts.pserve", "--reload", str(ini)],
        f"http://127.0.0.1:{port}/",
        status=404,
        timeout=30,
        envvars={
            **os.environ,
            "PYTHONPATH": str(directory),
            "TMPDIR": str(directory / "tmp"),
        },
        stdin=subprocess.DEVNULL,
        expected_returncode=256 - signal.SIGTERM,  # as hupper tells it
    ) as pserve:
        before = count()
        in_memory = processes_below(directory / "tmp")
        worker = psutil.Process(before["pid"])
        for later in range(1, SECONDS + 1):
            # Again and again: the first change may come before the file is watched.
            os.utime(application, (time.time() + later, time.time() + later))
            if not psutil.wait_procs([worker], timeout=1)[1]:
                break
        pserve.wait_for(pserve.after_start_check)
        after = count()
        old_in_memory = still_there(in_memory)
        servers = servers_below(directory)
        last = processes_below(directory / "tmp") + processes_below(directory / "data")
    return Reload(before, after, old_in_memory, servers, still_there(last))


def test_pserve_reload_replaces_the_process(reload: Reload) -> None:
    assert reload.before["pid"] != reload.after["pid"]


def test_pserve_reload_keeps_a_directory_s_data(reload: Reload) -> None:
    assert (reload.before["foo"], reload.after["foo"]) == (1, 2)


def test_pserve_reload_starts_with_an_empty_memory(reload: Reload) -> None:
    assert (reload.before["bar"], reload.after["bar"]) == (1, 1)


def test_pserve_reload_leaves_no_server_behind(reload: Reload) -> None:
    assert reload.old_in_memory == []
    assert len(reload.servers) == 2  # one for the directory, one in memory


def test_no_server_is_left_when_pserve_is_stopped(reload: Reload) -> None:
    assert reload.left == []
