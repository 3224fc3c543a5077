"""A scrape of two gunicorn workers, as the documentation says how to set it up."""

from __future__ import annotations

import os
import re
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from functools import partial
from http.client import HTTPException
from pathlib import Path

import psutil
import pytest
from prometheus_client.parser import text_string_to_metric_families

from ..support import servers
from ..support.servers import Server
from ..support.workers import Workers, running_workers

pytestmark = pytest.mark.slow("starts gunicorn workers")

DOCUMENT = (Path(__file__).parents[2] / "docs/guides/prometheus.rst").read_text()
APPLICATION = "tests.integration.prometheus_app:application()"
Start = Callable[..., Workers]
# Gauges are written once a second, by a thread that may have to wait for its turn.
wait_until = partial(servers.wait_until, seconds=60)


def documented(containing: str) -> str:
    """The code block of the documentation in which that stands."""
    blocks = re.findall(r"\.\. code-block:: python\n\n((?:    .*\n|\n)+)", DOCUMENT)
    (block,) = [block for block in blocks if containing in block]
    return "\n".join(line[4:] for line in block.split("\n"))


@pytest.fixture
def start(tmp_path: Path, valkey: Server) -> Iterator[Start]:
    """Start two workers, with the options given."""
    (tmp_path / "documented_view.py").write_text(documented("def includeme"))
    (tmp_path / "gunicorn.conf.py").write_text(documented("def child_exit"))
    (tmp_path / "files").mkdir()
    environment = {
        "PROMETHEUS_MULTIPROC_DIR": str(tmp_path / "files"),
        "PYTHONPATH": str(tmp_path),
        "REDIS_URL": valkey.url,
    }
    with ExitStack() as stack:

        def started(*options: str, **more: str) -> Workers:
            options = ("-c", str(tmp_path / "gunicorn.conf.py"), *options)
            return stack.enter_context(
                running_workers(sys.executable, APPLICATION, {**environment, **more}, *options)
            )

        yield started


def value(workers: Workers, metric: str, **labels: str) -> float | None:
    """A value of the scrape; ``redis_`` is left out of the labels' names."""
    wanted = {f"redis_{name}": text for name, text in labels.items()}
    found = [
        sample.value
        for family in text_string_to_metric_families(workers.scrape())
        for sample in family.samples
        if sample.name == f"redis_client_{metric}" and wanted.items() <= sample.labels.items()
    ]
    assert len(found) <= 1, "the labels name more than one"
    return found[0] if found else None


def test_what_both_workers_did_is_added_up(start: Start) -> None:
    workers = start()
    workers.ask_each("/command/SET/a/b")
    workers.ask_each("/command/GET/a")
    workers.ask(workers.pids[0], "/command/GET/a")

    assert value(workers, "requests_total", command="set", success="true") == 2
    assert value(workers, "requests_total", command="get", success="true") == 3
    assert value(workers, "latency_seconds_count", command="get", success="true") == 3
    assert value(workers, "active_requests", command="get") in (None, 0)


def test_the_pools_of_both_workers_are_added_up_once_they_are_used(start: Start) -> None:
    workers = start()
    first, second = workers.pids
    assert value(workers, "pool_max_size", pool="foo") is None

    workers.ask(first, "/command/PING")
    wait_until(lambda: value(workers, "pool_max_size", pool="foo") == 4)
    workers.ask(second, "/command/PING")
    wait_until(lambda: value(workers, "pool_max_size", pool="foo") == 8)

    wait_until(lambda: value(workers, "pool_active_connections", pool="foo") == 2)
    wait_until(lambda: value(workers, "pool_idle_connections", pool="foo") == 2)


def in_the_background(workers: Workers, pid: int, path: str) -> threading.Thread:
    def ask() -> None:
        with suppress(OSError, HTTPException):  # it may be killed meanwhile
            workers.ask(pid, path)

    thread = threading.Thread(target=ask)
    thread.start()
    return thread


@pytest.mark.parametrize("kind", ["gthread", "gevent"])
def test_a_command_is_active_while_it_is_under_way(start: Start, kind: str) -> None:
    workers = start("-k", kind)
    first, second = workers.pids
    thread = in_the_background(workers, first, "/command/BLPOP/jobs/0")

    wait_until(lambda: value(workers, "active_requests", command="blpop") == 1)
    # Its connection isn't idle, although no command has ended since it was taken.
    wait_until(lambda: value(workers, "pool_active_connections", pool="foo") == 1)
    assert value(workers, "pool_idle_connections", pool="foo") == 0

    workers.ask(second, "/command/RPUSH/jobs/work")
    thread.join()
    wait_until(lambda: value(workers, "active_requests", command="blpop") == 0)
    assert value(workers, "requests_total", command="blpop", success="true") == 1


def test_the_gauges_of_a_worker_that_is_gone_are_dropped_and_its_counts_stay(start: Start) -> None:
    workers = start()
    first, second = workers.pids
    workers.ask_each("/command/GET/a")
    thread = in_the_background(workers, first, "/command/BLPOP/jobs/0")
    wait_until(lambda: value(workers, "active_requests", command="blpop") == 1)
    wait_until(lambda: value(workers, "pool_max_size", pool="foo") == 8)

    os.kill(first, signal.SIGKILL)
    thread.join()

    wait_until(lambda: value(workers, "pool_max_size", pool="foo") == 4)
    assert value(workers, "active_requests", command="blpop") is None
    assert value(workers, "requests_total", command="get", success="true") == 2

    workers.meet()
    assert second in workers.pids
    workers.ask_each("/command/GET/a")
    assert value(workers, "requests_total", command="get", success="true") == 4
    wait_until(lambda: value(workers, "pool_max_size", pool="foo") == 8)


def test_workers_that_were_forked_after_a_command_count_for_themselves(start: Start) -> None:
    workers = start("--preload", PING_FIRST="yes")
    assert isinstance(workers.master, psutil.Process)
    workers.ask_each("/command/PING")

    assert value(workers, "requests_total", command="ping", success="true") == 3
    # The master has used the client, too.
    wait_until(lambda: value(workers, "pool_max_size", pool="foo") == 12)
    wait_until(lambda: value(workers, "pool_active_connections", pool="foo") == 3)
    wait_until(lambda: value(workers, "active_requests", command="ping") == 0)


def test_a_master_that_only_forks_workers_has_no_pool_of_its_own(start: Start) -> None:
    workers = start("--preload")
    workers.ask_each("/command/PING")

    wait_until(lambda: value(workers, "pool_max_size", pool="foo") == 8)
    wait_until(lambda: value(workers, "pool_active_connections", pool="foo") == 2)
