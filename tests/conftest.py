"""Fixtures: real servers, recorded spans, and a Configurator with the package included."""

from __future__ import annotations

import gc
import logging
import os
import signal
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import hypothesis
import pytest
import redis
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import Span
from pyramid.config import Configurator

from pyramid_baseplate_redis import MonitoredRedisConnection, pool_from_config

from .support.cli import Predis
from .support.servers import KINDS, MakeClient, RecordedSpans, Server, running_server
from .support.shared_topologies import SharedTopologies, shared_by_files
from .support.topologies import (
    Cluster,
    SentinelSet,
    Topology,
    log_tails,
    running_cluster,
    running_sentinels,
)

pytest_plugins = ["tests.support.selection", "tests.support.distribution"]

_exporter = InMemorySpanExporter()
_SHARED = pytest.StashKey[Mapping[Path, set[str]]]()

# Machines are noisy; and what CI says shouldn't depend on chance.
_unhurried: Any = {"deadline": None, "suppress_health_check": [hypothesis.HealthCheck.too_slow]}
hypothesis.settings.register_profile("here", **_unhurried)
hypothesis.settings.register_profile("ci", **_unhurried, derandomize=True)
hypothesis.settings.load_profile("ci" if os.environ.get("CI") else "here")


def pytest_configure(config: pytest.Config) -> None:
    # A shell ignores SIGINT for what it starts in the background, and tests send it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    # OpenTelemetry takes one provider per process, for good.
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(_exporter))
    trace.set_tracer_provider(provider)


def pytest_collection_finish(session: pytest.Session) -> None:
    # Many tests collect garbage. Without what is imported, a collection takes a tenth of the time.
    gc.collect()
    gc.freeze()
    session.stash[_SHARED] = shared_by_files(session.items)


@pytest.fixture
def spans() -> Iterator[RecordedSpans]:
    """The spans that the test records."""
    _exporter.clear()
    yield RecordedSpans(_exporter)
    _exporter.clear()


@pytest.fixture(scope="session")
def valkey_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A Valkey from PyPI; there on every machine."""
    with running_server("valkey", tmp_path_factory.mktemp("valkey")) as server:
        yield server


@pytest.fixture(scope="module", params=KINDS)
def any_server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    """Each of the servers in turn: Valkey always, the others where they are installed.

    Tests with one of the others as a parameter are slow ones.
    """
    if request.param == "valkey":
        yield request.getfixturevalue("valkey_server")
    else:
        directory = tmp_path_factory.mktemp(f"{request.param}-server")
        with running_server(request.param, directory) as server:
            yield server


@pytest.fixture
def server(any_server: Server) -> Server:
    """An empty server, of each kind in turn."""
    _flush(any_server)
    return any_server


@pytest.fixture
def valkey(valkey_server: Server) -> Server:
    """An empty Valkey: for tests in which the kind of server makes no difference."""
    _flush(valkey_server)
    return valkey_server


@pytest.fixture
def make_client() -> Iterator[MakeClient]:
    """Make the client ``foo`` of a server, with the settings given."""
    pools: list[redis.ConnectionPool] = []

    def make(
        server: Server | str, span: Span | None = None, **settings: str
    ) -> MonitoredRedisConnection:
        url = server if isinstance(server, str) else server.url
        own = {f"foo.{key}": value for key, value in settings.items()}
        pools.append(pool_from_config({"foo.url": url, **own}, "foo."))
        return MonitoredRedisConnection("foo", span, pools[-1])

    yield make
    for pool in pools:
        pool.disconnect()


def _flush(server: Server) -> None:
    with redis.Redis(port=server.port) as client:
        client.flushall()


@pytest.fixture
def make_config() -> Any:
    """Make a Configurator with the package included and the settings given."""

    def make(**settings: Any) -> Configurator:
        dotted = {key.replace("__", "."): value for key, value in settings.items()}
        config = Configurator(settings=dotted)
        config.include("pyramid_baseplate_redis")
        return config

    return make


@pytest.fixture(scope="session")
def socket_directory() -> Iterator[Path]:
    """A directory with a short path: that of a Unix socket has at most 103 bytes."""
    with tempfile.TemporaryDirectory(prefix="redis-") as directory:
        yield Path(directory)


@pytest.fixture
def predis(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Predis]:
    """The command, on an .ini file that the test writes.

    It sets up logging, to a stream that ends with the test.
    """
    handlers, level = logging.root.handlers[:], logging.root.level
    for variable in ("COLUMNS", "FORCE_COLOR", "NO_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(variable, raising=False)
    yield Predis(tmp_path, capsys, monkeypatch)
    logging.root.handlers[:] = handlers
    logging.root.setLevel(level)


@pytest.fixture(params=KINDS)
def server_kind(request: pytest.FixtureRequest) -> str:
    """Each kind of server in turn: for tests that start their own."""
    return str(request.param)


@pytest.fixture(scope="session")
def shared_topologies(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SharedTopologies]:
    make = tmp_path_factory.mktemp
    starts: dict[str, Callable[[], Any]] = {
        "cluster": lambda: running_cluster("valkey", make("valkey-cluster")),
        "sentinels": lambda: running_sentinels("valkey", make("valkey-sentinels")),
    }
    with SharedTopologies(starts) as shared:
        yield shared


@pytest.fixture(scope="module", autouse=True)
def _no_idle_topologies(
    request: pytest.FixtureRequest, shared_topologies: SharedTopologies
) -> None:
    shared_topologies.stop_all_but(request.session.stash[_SHARED][request.path])


@pytest.fixture(scope="module")
def valkey_cluster(shared_topologies: SharedTopologies) -> Cluster:
    """A Cluster of six Valkeys, as the test before has left it."""
    cluster: Cluster = shared_topologies.get("cluster")
    return cluster


@pytest.fixture(scope="module", params=KINDS)
def any_cluster(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Cluster]:
    """A Cluster of each kind in turn, as the test before has left it."""
    if request.param == "valkey":
        yield request.getfixturevalue("valkey_cluster")
    else:
        directory = tmp_path_factory.mktemp(f"{request.param}-cluster")
        with running_cluster(request.param, directory) as cluster:
            yield cluster


@pytest.fixture(scope="module")
def valkey_sentinels(shared_topologies: SharedTopologies) -> SentinelSet:
    """A Valkey and its replica, watched by three Sentinels, as the test before has left them."""
    sentinels: SentinelSet = shared_topologies.get("sentinels")
    return sentinels


@pytest.fixture(scope="module", params=KINDS)
def any_sentinels(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[SentinelSet]:
    """A Sentinel set of each kind in turn, as the test before has left it."""
    if request.param == "valkey":
        yield request.getfixturevalue("valkey_sentinels")
    else:
        directory = tmp_path_factory.mktemp(f"{request.param}-sentinels")
        with running_sentinels(request.param, directory) as sentinels:
            yield sentinels


@pytest.fixture
def cluster(any_cluster: Cluster) -> Cluster:
    """An empty Cluster that is whole, of each kind in turn."""
    any_cluster.tidy()
    return any_cluster


@pytest.fixture
def sentinels(any_sentinels: SentinelSet) -> SentinelSet:
    """An empty Sentinel set that is whole, of each kind in turn."""
    any_sentinels.tidy()
    return any_sentinels


@pytest.fixture
def fresh_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Cluster]]:
    """Start Clusters for this test alone: see `running_cluster` for the arguments."""
    with ExitStack() as stack:

        def start(kind: str = "valkey", *options: str, **settings: Any) -> Cluster:
            directory = tmp_path_factory.mktemp(f"{kind}-cluster")
            made.append(stack.enter_context(running_cluster(kind, directory, *options, **settings)))
            return made[-1]

        made: list[Cluster] = []
        start.made = made  # type: ignore[attr-defined]
        yield start


@pytest.fixture
def fresh_sentinels(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Callable[..., SentinelSet]]:
    """Start Sentinel sets for this test alone: see `running_sentinels` for the arguments."""
    with ExitStack() as stack:

        def start(kind: str = "valkey", *options: str, **settings: Any) -> SentinelSet:
            directory = tmp_path_factory.mktemp(f"{kind}-sentinels")
            made.append(
                stack.enter_context(running_sentinels(kind, directory, *options, **settings))
            )
            return made[-1]

        made: list[SentinelSet] = []
        start.made = made  # type: ignore[attr-defined]
        yield start


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Any:
    """Where a test fails, show what the servers of its topologies said last."""
    report = yield
    if report.failed:
        arguments = getattr(item, "funcargs", {}).values()
        topologies = [value for value in arguments if isinstance(value, Topology)]
        topologies += [made for value in arguments for made in getattr(value, "made", [])]
        # A fixture and the one it stems from are the same topology.
        for topology in {id(topology): topology for topology in topologies}.values():
            report.sections.append((f"{topology.kind} servers", log_tails(topology.processes)))
    return report
