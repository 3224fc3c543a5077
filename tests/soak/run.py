"""Run a soak: deploy the app, start visitors and faults, and record what happens."""

from __future__ import annotations

import os
import platform
import re
import tempfile
import threading
import time
from collections import Counter
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path

from ..support.servers import wait_until
from .bounds import Bounds
from .deployment import QUEUE_WORKER, THREADS, WORKERS, Deployment, deployed
from .faults import Faults
from .load import VISITORS, Visitors
from .records import Records
from .sampling import Sampler

# The last line of a traceback, except that of Pyramid's search for an exception view, and the
# warnings about a connection or a pipeline that a request has kept.
_ERROR = re.compile(
    r"^(?!pyramid\.httpexceptions)(?:[a-z_]\w*\.[\w.]+|\w+Error)(?=:|$)"
    r"|connection held for|was left open",
    re.MULTILINE,
)


def soak(minutes: float, worker_classes: list[str], seed: int, quiet: float) -> Records:
    """Run the app for some minutes and return what was recorded.

    :param worker_classes: of gunicorn, which run side by side.
    :param seed: chooses the order of the faults.
    :param quiet: seconds between two faults.
    """
    with (
        tempfile.TemporaryDirectory(prefix="soak-") as directory,
        deployed(worker_classes, Path(directory)) as running,
    ):
        records = Records(
            minutes,
            max_connections=int(running.settings["links.max_connections"]),
            machine=_machine(running, worker_classes, seed),
        )
        _run(records, running, seed, quiet)
        with suppress(AssertionError):
            wait_until(lambda: not _queue(running)["waiting"], 30)
        found = [each for each in records.answers if each.page == "follow"]
        records.clicks = {
            "acknowledged": sum(each.status == 302 for each in found), **_queue(running)
        }  # fmt: skip
        records.errors += _logged(Path(directory), worker_classes)
        return records


def _run(records: Records, running: Deployment, seed: int, quiet: float) -> None:
    start, stopping = time.monotonic(), threading.Event()

    def now() -> float:
        return time.monotonic() - start

    bounds = Bounds.of(running.settings)
    crowds = [Visitors(group, port, bounds, records, now) for group, port in running.ports.items()]
    for crowd in crowds:
        crowd.prepare()
    # gunicorn starts a thread when a request needs one, and keeps it: all of them are there when
    # the time begins.
    running.proxy.delay(0.3)
    for crowd in crowds:
        crowd.fill(2 * WORKERS * THREADS)
    running.proxy.delay(0)

    def burst() -> None:
        bursts = [threading.Thread(target=crowd.burst) for crowd in crowds]
        for each in bursts:
            each.start()
        for each in bursts:
            each.join()

    start = time.monotonic()
    sampler = Sampler(running, records, now)
    faults = Faults(running, records, now, burst, seed, quiet)
    threads = [
        threading.Thread(target=sampler.sample, args=(stopping,)),
        threading.Thread(target=sampler.watch_lateness, args=(stopping,)),
        threading.Thread(target=faults.make, args=(stopping, records.seconds)),
        *(
            threading.Thread(target=crowd.visit, args=(stopping,))
            for crowd in crowds
            for _ in range(VISITORS)
        ),
    ]
    try:
        for thread in threads:
            thread.start()
        time.sleep(records.seconds)
    finally:
        stopping.set()
        for thread in threads:
            thread.join()


def _queue(running: Deployment) -> dict[str, int]:
    """Return how many clicks the worker has kept, and how many wait or are dead letters."""
    with running.server.outside() as client:
        days = client.hgetall("links:days")
        dead = [key for key in client.scan_iter("{clicks}:*") if "dead" in key]
        return {
            "kept": sum(map(int, days.values())),
            "waiting": client.xlen("{clicks}:messages"),
            "dead": sum(client.xlen(key) for key in dead if client.type(key) == "stream"),
        }


def _logged(directory: Path, worker_classes: list[str]) -> list[str]:
    """Return the errors and leaks that gunicorn's workers have logged, each with its number.

    The queue's worker logs each failure of its handler, which is what it should do.
    """
    found: Counter[str] = Counter()
    for worker_class in worker_classes:
        errors = _ERROR.findall((directory / f"{worker_class}.log").read_text())
        found.update(f"{worker_class} logged {error!r}" for error in errors)
    return [f"{error} ({count} times)" for error, count in found.items()]


def _machine(running: Deployment, worker_classes: list[str], seed: int) -> dict[str, str]:
    with running.server.outside() as client:
        server = client.info("server")
    packages = ("pyramid", "redis", "hiredis", "gunicorn", "gevent", "opentelemetry-sdk")
    return {
        "deployment": (
            f"gunicorn with {' and with '.join(worker_classes)}, {WORKERS} workers each and "
            f"{THREADS} threads or greenlets in each; one {QUEUE_WORKER}"
        ),
        "seed": str(seed),
        "machine": f"{os.cpu_count()} processors, {platform.system()} {platform.machine()}",
        "server": f"Valkey {server.get('valkey_version', server['redis_version'])}",
        "versions": ", ".join(
            [
                f"Python {platform.python_version()}",
                *(f"{name} {version(name)}" for name in packages),
            ]
        ),
    }
