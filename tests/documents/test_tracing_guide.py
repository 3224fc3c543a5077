"""The set-ups of the tracing guide send spans to a collector from the processes that they name."""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.error import URLError
from urllib.request import ProxyHandler, build_opener

import pytest

from ..support.collector import collector, spans_of
from ..support.link_shortener import started, wait_until
from ..support.servers import Server, free_port

pytestmark = pytest.mark.slow("starts pserve and gunicorn")

PAGE = (Path(__file__).parents[2] / "docs/guides/tracing.rst").read_text()
BIN = Path(sys.executable).parent
SET_UP = "from myapp.telemetry import set_up_tracing\n\n"
MAIN = """
import os
from pyramid.config import Configurator

def home(request):
    request.foo.incr("visits")
    return {"pid": os.getpid()}

def main(global_config=None, **settings):
    with Configurator(settings=settings) as config:
        config.include("pyramid_baseplate_redis")
        config.add_route("home", "/")
        config.add_view(home, route_name="home", renderer="json")
    return config.make_wsgi_app()
"""
INI = """
[app:main]
use = call:myapp:main
foo.url = {url}

[server:main]
use = egg:waitress#main
listen = 127.0.0.1:{port}
"""


def blocks(language: str) -> list[str]:
    """The code blocks of the page, without their indentation."""
    found = re.findall(rf"^( *)\.\. code-block:: {language}\n\n((?:\1    .*\n|\n)+)", PAGE, re.M)
    return [re.sub(f"^{indent}    ", "", block, flags=re.M) for indent, block in found]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """The application ``myapp``, with the page's ``myapp/telemetry.py``, which nothing calls."""
    (tmp_path / "myapp").mkdir()
    (tmp_path / "myapp/__init__.py").write_text(MAIN)
    (tmp_path / "myapp/telemetry.py").write_text(blocks("python")[0])
    return tmp_path


def calls_it_in_main(project: Path) -> None:
    calling = MAIN.replace("**settings):\n", "**settings):\n    set_up_tracing()\n")
    (project / "myapp/__init__.py").write_text(SET_UP + calling)


def calls_it_in_post_fork(project: Path) -> None:
    (project / "gunicorn.conf.py").write_text(blocks("python")[1])


@contextmanager
def served(
    command: list[str], project: Path, valkey: Server
) -> Iterator[tuple[int, Callable[[], list[str]]]]:
    """Serve the application; yield its port and a function that returns the spans' names."""
    port = free_port()
    (project / "production.ini").write_text(INI.format(url=valkey.url, port=port))
    path = os.pathsep.join([str(project), os.environ.get("PYTHONPATH", "")])
    with collector() as (endpoint, received):
        environment = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": endpoint,
            "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
            "OTEL_METRICS_EXPORTER": "none",
            "OTEL_BSP_SCHEDULE_DELAY": "100",
            "NO_PROXY": "*",
            "PYTHONPATH": path,
        }
        full = [part.format(port=port) for part in command]
        with started(full, project, **environment) as server:
            yield port, lambda: [span.name for span in spans_of(received)]
            server.process.terminate()
            server.process.wait(20)


def visit(port: int) -> bytes:
    """Get the page, which has the number of the process, as soon as the server listens."""
    opener = build_opener(ProxyHandler({}))
    answer = b""

    def answered() -> bool:
        nonlocal answer
        try:
            with opener.open(f"http://127.0.0.1:{port}/", timeout=10) as response:
                answer = response.read()
        except (URLError, ConnectionError):
            return False
        return True

    wait_until(answered)
    return answer


GUNICORN = [str(BIN / "gunicorn"), "--workers", "2", "--bind", "127.0.0.1:{port}"]
PASTE = ["--paste", "production.ini"]


@pytest.mark.parametrize(
    ("command", "set_up"),
    [
        ([str(BIN / "pserve"), "production.ini"], calls_it_in_main),
        ([*GUNICORN, *PASTE], calls_it_in_main),
        ([*GUNICORN, *PASTE], calls_it_in_post_fork),
        ([*GUNICORN, "--preload", *PASTE], calls_it_in_post_fork),
    ],
    ids=["pserve, main", "gunicorn, main", "gunicorn, post_fork", "preload, post_fork"],
)
def test_spans_of_each_worker_arrive(
    command: list[str], set_up: Callable[[Path], None], project: Path, valkey: Server
) -> None:
    set_up(project)
    workers = 2 if "--workers" in command else 1
    with served(command, project, valkey) as (port, names):
        seen: set[bytes] = set()
        visits = 0
        while len(seen) < workers and visits < 500:
            seen.add(visit(port))
            visits += 1
        wait_until(lambda: len(names()) >= 2 * visits)
    assert len(seen) == workers
    assert names().count("GET /") == names().count("foo.INCRBY") == visits


def test_opentelemetry_instrument_needs_no_change_of_the_application(
    project: Path, valkey: Server
) -> None:
    pytest.importorskip("opentelemetry.distro", reason="needs opentelemetry-distro")
    launcher = shutil.which("opentelemetry-instrument", path=str(BIN))
    assert launcher is not None
    command = [launcher, str(BIN / "pserve"), "production.ini"]
    with served(command, project, valkey) as (port, names):
        visit(port)
        # The request's span is that of the installed instrumentation of Pyramid.
        wait_until(lambda: set(names()) == {"/", "foo.INCRBY"})
