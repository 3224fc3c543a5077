"""Measure the requests of request.py under gunicorn, with spans exported by OTLP.

Run ``python benchmarks/deployed.py``. The documents explain how to read the tables.
"""

from __future__ import annotations

import os
import random
import statistics
import sys
import threading
import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path

from deployed_app import (
    FLUSH,
    HAS_MIN_DURATION,
    MIN_DURATION,
    RECORDED_AND_METERED,
    SLOW_RECORDED,
    WITHOUT_SDK,
)
from measuring import (
    Samples,
    Spread,
    arguments,
    console,
    ratio,
    rows,
    running_valkey,
    show,
    verdict,
)
from mirakuru import TCPExecutor
from port_for import get_port
from request import NO_SDK, OTEL_RECORDED, PLAIN, RECORDED, SPANS
from rich.table import Table

ROUNDS = 40
REQUESTS = 300  # of one variant in one round
CLIENTS = 4
FOLDER = Path(__file__).parent
GUNICORN = (
    "-m", "gunicorn", "--bind", "127.0.0.1:{port}", "--workers", "1", "--log-level", "warning",
    "--no-control-socket",
)  # fmt: skip
SECONDS = 60  # for a worker to start, or to answer

TARGETS: dict[str, float | None] = {
    PLAIN: None,
    NO_SDK: None,
    SLOW_RECORDED: 1.0,
    RECORDED: 1.25,
    RECORDED_AND_METERED: None,
    OTEL_RECORDED: None,
}


def get(port: int, path: str) -> bytes:
    connection = HTTPConnection("127.0.0.1", port, timeout=SECONDS)
    try:
        return answer(connection, path)
    finally:
        connection.close()


def answer(connection: HTTPConnection, path: str) -> bytes:
    connection.request("GET", path)  # connects again if the worker has closed the connection
    response = connection.getresponse()
    body = response.read()
    if response.status != 200:
        raise AssertionError(f"{path}: {response.status} {body!r}")
    return body


def load(port: int, requests: int) -> float:
    """Send requests from all clients, and return the seconds that they took together."""
    failures: list[Exception] = []

    def send() -> None:
        connection = HTTPConnection("127.0.0.1", port, timeout=SECONDS)
        try:
            for _ in range(requests // CLIENTS):
                answer(connection, "/visitors/alice")
        except Exception as error:
            failures.append(error)
        finally:
            connection.close()

    clients = [threading.Thread(target=send) for _ in range(CLIENTS)]
    started = time.perf_counter()
    for client in clients:
        client.start()
    for client in clients:
        client.join()
    seconds = time.perf_counter() - started
    for failure in failures:
        raise failure
    return seconds


@dataclass(frozen=True)
class Deployment:
    """The workers of all variants, by port, and the sink of their spans."""

    ports: dict[str, int]
    sink: int

    def sample(self, variant: str) -> tuple[float, float]:
        """Return the microseconds of a request by the clock, and of the worker's CPU time.

        :raises AssertionError: a span was lost, or there was one too many.
        """
        port = self.ports[variant]
        cpu, spans = float(get(port, FLUSH)), int(get(self.sink, "/"))
        seconds = load(port, REQUESTS)
        cpu, spans = float(get(port, FLUSH)) - cpu, int(get(self.sink, "/")) - spans
        expected = 0 if variant in WITHOUT_SDK else REQUESTS * SPANS
        if spans != expected and not (variant == SLOW_RECORDED and REQUESTS <= spans < expected):
            raise AssertionError(f"{variant}: {spans} spans exported, not {expected}")
        return seconds / REQUESTS * 1e6, cpu / REQUESTS * 1e6


@contextmanager
def deployed(variants: Sequence[str], url: str, cpus: Collection[int]) -> Iterator[Deployment]:
    """Start the sink and the workers.

    :param cpus: those of the sink and of this process from then on; none leaves them as they are.
        The workers keep the CPU that this process has had so far.
    """
    with ExitStack() as stack:

        def start(*command: str) -> tuple[int, int]:
            """Return the port, which takes the place of ``{port}``, and the process."""
            port = get_port(None)
            assert port is not None
            executor = TCPExecutor(
                [sys.executable, *(part.format(port=port) for part in command)],
                "127.0.0.1", port, timeout=SECONDS, cwd=FOLDER, envvars=environment,
            )  # fmt: skip
            process = stack.enter_context(executor).process
            assert process is not None
            return port, process.pid

        environment = dict(os.environ)
        sink, pid = start("otlp_sink.py", "{port}")
        environment["OTEL_EXPORTER_OTLP_ENDPOINT"] = f"http://127.0.0.1:{sink}"
        ports = {}
        for variant in variants:
            application = f"deployed_app:make_application({variant!r}, {url!r})"
            ports[variant], _ = start(*GUNICORN, application)
        if cpus:
            os.sched_setaffinity(pid, cpus)
            os.sched_setaffinity(0, cpus)
        yield Deployment(ports, sink)


def measure(deployment: Deployment, rounds: int) -> Samples:
    """Load the workers in turn, in a random order in each round; the other workers are idle."""
    order = list(deployment.ports)
    for variant in order:
        deployment.sample(variant)
    samples = Samples({variant: [] for variant in order}, {variant: [] for variant in order})
    shuffle = random.Random(0).shuffle
    for _ in range(rounds):
        shuffle(order)
        for variant in order:
            clock, cpu = deployment.sample(variant)
            samples.clock[variant].append(clock)
            samples.cpu[variant].append(cpu)
    return samples


def show_rates(samples: Samples) -> None:
    table = Table(title="Requests a second", title_justify="left", title_style="bold")
    table.add_column("")
    for heading in ("requests/s", "times hand-made", "quartiles"):
        table.add_column(heading, justify="right")
    for variant, microseconds in samples.clock.items():
        pairs = zip(samples.clock[PLAIN], microseconds, strict=True)
        figure = Spread.of([plain / mine for plain, mine in pairs])
        table.add_row(variant, f"{1e6 / statistics.median(microseconds):,.0f}", *figure.shown())
    console.print(table)


def main() -> int:
    chosen = arguments(__doc__, ROUNDS)
    variants = [v for v in TARGETS if v != SLOW_RECORDED or HAS_MIN_DURATION]
    if not HAS_MIN_DURATION:
        console.print(f"skipped: {SLOW_RECORDED}: this version has no foo.{MIN_DURATION}")
    cpus: set[int] = set()
    if chosen.placement == "apart" and hasattr(os, "sched_getaffinity"):  # Linux has it
        cpus = {max(os.sched_getaffinity(0))}  # the server's, too
    with (
        running_valkey(chosen.placement) as url,
        deployed(variants, url, cpus) as deployment,
    ):
        samples = measure(deployment, chosen.rounds)
    targets = {variant: TARGETS[variant] for variant in variants}
    in_cpu = rows(samples.cpu, targets, lambda name: ratio(samples.cpu, name, PLAIN))
    show_rates(samples)
    show("CPU time of the worker a request, exports included", "times hand-made", in_cpu)
    return verdict(in_cpu, chosen.check)


if __name__ == "__main__":
    sys.exit(main())
