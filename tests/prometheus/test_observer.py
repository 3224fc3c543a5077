"""The metrics for Prometheus, as a scrape of one process shows them."""

from __future__ import annotations

import gc
import itertools
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
import redis
from prometheus_client import REGISTRY
from pyramid.exceptions import ConfigurationExecutionError

from pyramid_baseplate_redis import ConfigurationError, PoolTimeoutError, RedisClient
from pyramid_baseplate_redis.prometheus import observe_client
from pyramid_baseplate_redis.prometheus.instruments import PROCESS, REQUESTS, PrometheusObserver

from ..support.servers import Server, free_port, interrupt_when_blocked, wait_until
from ..support.topologies import Cluster, SentinelSet

BUCKETS = [
    "0.0001", "0.0005", "0.001", "0.0025", "0.005", "0.01", "0.025", "0.05", "0.1", "0.25", "0.5",
    "1.0", "5.0", "15.0", "30.0", "+Inf",
]  # fmt: skip


_numbers = itertools.count()


class Measured:
    """A client with a ``redis_client_name`` of its own, and what the scrape tells of it."""

    def __init__(self, url: str, name: str, redis_type: str = "standalone", **settings: str):
        self.name = name
        self.redis_type = redis_type
        own = {f"{name}.{key}": value for key, value in settings.items()}
        self.factory: Any = RedisClient(name).parse(name, {f"{name}.url": url, **own})
        observe_client(self.factory)
        self.pool: Any = self.factory.connection_pool
        self.client: Any = self.factory.make_object_for_context(name, None)

    def sample(self, metric: str, command: str, **more: str) -> float | None:
        labels = {
            "redis_command": command,
            "redis_database": "0",
            "redis_client_name": self.name,
            "redis_type": self.redis_type,
        }
        return REGISTRY.get_sample_value(f"redis_client_{metric}", {**labels, **more})

    def requests(self, command: str) -> dict[str, float]:
        """How many there were, by ``redis_success``."""
        found = {
            success: self.sample("requests_total", command, redis_success=success)
            for success in ("true", "false")
        }
        return {success: number for success, number in found.items() if number is not None}

    def active(self, command: str) -> float | None:
        return self.sample("active_requests", command)

    def pooled(self, metric: str) -> float | None:
        labels = {"redis_pool": self.name}
        return REGISTRY.get_sample_value(f"redis_client_pool_{metric}", labels)

    @property
    def commands(self) -> set[str]:
        """The label ``redis_command`` of all that was measured."""
        (family,) = [each for each in REGISTRY.collect() if each.name == "redis_client_requests"]
        own = [each for each in family.samples if each.labels["redis_client_name"] == self.name]
        return {each.labels["redis_command"] for each in own}


@pytest.fixture
def measure() -> Iterator[Callable[..., Measured]]:
    made: list[Measured] = []

    def make(server: Any, **settings: Any) -> Measured:
        url = server if isinstance(server, str) else server.url
        # The registry is the process's: what other tests have counted has other labels.
        made.append(Measured(url, f"measured_{next(_numbers)}", **settings))
        return made[-1]

    yield make
    for each in made:
        each.pool.disconnect()


@pytest.fixture
def foo(measure: Callable[..., Measured], valkey: Server) -> Measured:
    return measure(valkey, pool_timeout="0 seconds", max_connections="2")


# Names, types, labels, buckets


@pytest.mark.parametrize(
    ("name", "kind", "samples", "labels"),
    [
        (
            "redis_client_latency_seconds",
            "histogram",
            {"_bucket", "_count", "_sum", "_created"},
            "command database client_name type success",
        ),
        (
            "redis_client_requests",
            "counter",
            {"_total", "_created"},
            "command database client_name type success",
        ),
        ("redis_client_active_requests", "gauge", {""}, "command database client_name type"),
        ("redis_client_pool_max_size", "gauge", {""}, "pool"),
        ("redis_client_pool_idle_connections", "gauge", {""}, "pool"),
        ("redis_client_pool_active_connections", "gauge", {""}, "pool"),
    ],
)
def test_a_metric_has_baseplates_name_type_and_labels(
    foo: Measured, name: str, kind: str, samples: set[str], labels: str
) -> None:
    foo.client.get("a")

    (family,) = [family for family in REGISTRY.collect() if family.name == name]

    assert family.type == kind
    assert {sample.name.removeprefix(name) for sample in family.samples} == samples
    for sample in family.samples:
        assert {*sample.labels} - {"le"} == {f"redis_{label}" for label in labels.split()}


def test_latencies_have_baseplates_buckets(foo: Measured) -> None:
    foo.client.get("a")

    (family,) = [each for each in REGISTRY.collect() if each.name == "redis_client_latency_seconds"]
    own = [each for each in family.samples if each.labels["redis_client_name"] == foo.name]
    assert [each.labels["le"] for each in own if "le" in each.labels] == BUCKETS


def test_the_database_is_a_label(measure: Callable[..., Measured], valkey: Server) -> None:
    third = measure(valkey.url.replace("/0", "/3"))
    third.client.get("a")

    assert third.sample("active_requests", "get", redis_database="3") == 0
    assert third.active("get") is None


def client_name_of(client: RedisClient, settings: dict[str, str]) -> str:
    factory: Any = client.parse("foo", {"foo.url": "redis://localhost", **settings})
    observe_client(factory)
    (observer,) = factory.connection_pool.observers
    name: str = observer._labels[1]
    return name


def test_the_client_name_is_empty_unless_there_is_one() -> None:
    assert client_name_of(RedisClient(), {}) == ""
    assert client_name_of(RedisClient("mine"), {}) == "mine"
    assert client_name_of(RedisClient(client_name="keyword"), {}) == "keyword"
    assert client_name_of(RedisClient(), {"foo.client_name": "setting"}) == "setting"
    assert client_name_of(RedisClient("mine"), {"foo.client_name": "setting"}) == "mine"


# Commands


def test_a_command_is_counted_and_timed(foo: Measured) -> None:
    foo.client.get("a")
    foo.client.get("a")

    assert foo.requests("get") == {"true": 2}
    assert foo.sample("latency_seconds_count", "get", redis_success="true") == 2
    seconds = foo.sample("latency_seconds_sum", "get", redis_success="true")
    assert seconds is not None
    assert 0 < seconds < 60
    assert foo.sample("latency_seconds_bucket", "get", redis_success="true", le="+Inf") == 2
    assert foo.active("get") == 0


def test_a_servers_error_is_a_failure(foo: Measured) -> None:
    foo.client.set("a", "text")
    with pytest.raises(redis.ResponseError):
        foo.client.lpush("a", "b")

    assert foo.requests("lpush") == {"false": 1}
    assert foo.sample("latency_seconds_count", "lpush", redis_success="false") == 1


def test_a_command_that_failed_is_active_no_longer_while_its_error_is_handled(
    foo: Measured,
) -> None:
    foo.client.set("a", "text")
    with pytest.raises(redis.ResponseError) as raised:
        foo.client.lpush("a", "b")

    assert foo.active("lpush") == 0
    assert raised.tb is not None  # and with it the frames, and what they know of the command


def test_a_connection_error_is_a_failure(measure: Callable[..., Measured]) -> None:
    down = measure(f"redis://127.0.0.1:{free_port()}")
    with pytest.raises(redis.ConnectionError):
        down.client.get("a")

    assert down.requests("get") == {"false": 1}
    assert down.active("get") == 0
    assert down.pooled("active_connections") == 0


def test_a_command_that_gets_no_connection_is_a_failure(foo: Measured) -> None:
    held = [foo.pool.get_connection(), foo.pool.get_connection()]
    with pytest.raises(PoolTimeoutError):
        foo.client.get("a")

    assert foo.requests("get") == {"false": 1}
    assert foo.active("get") == 0
    for connection in held:
        foo.pool.release(connection)


def test_the_wait_for_a_connection_is_part_of_the_latency(
    measure: Callable[..., Measured], valkey: Server
) -> None:
    small = measure(valkey, max_connections="1", pool_timeout="0.3 seconds")
    held = small.pool.get_connection()
    with pytest.raises(PoolTimeoutError):
        small.client.get("a")
    small.pool.release(held)

    seconds = small.sample("latency_seconds_sum", "get", redis_success="false")
    assert seconds is not None
    assert seconds >= 0.29


def test_a_script_that_redis_py_loads_is_no_failure(foo: Measured) -> None:
    foo.client.register_script(f"return '{foo.name}'")()

    assert foo.requests("evalsha") == {"true": 2}
    assert foo.requests("script load") == {"true": 1}


def test_a_queues_commands_are_counted(foo: Measured) -> None:
    foo.client.message_queue("jobs").put("work")

    assert foo.requests("rpush") == {"true": 1}


def test_a_subscription_is_counted(foo: Measured) -> None:
    with foo.client.pubsub() as subscriber:
        subscriber.subscribe("news")

    assert foo.requests("subscribe") == {"true": 1}


def test_a_client_without_prometheus_is_not_counted(valkey: Server) -> None:
    factory = RedisClient("unobserved").parse("foo", {"foo.url": valkey.url})
    factory.make_object_for_context("foo", None).get("a")

    labels = {"redis_command": "get", "redis_database": "0", "redis_client_name": "unobserved"}
    found = REGISTRY.get_sample_value(
        "redis_client_active_requests", {**labels, "redis_type": "standalone"}
    )
    assert found is None
    factory.connection_pool.disconnect()


def test_what_goes_wrong_while_measuring_breaks_no_command(
    foo: Measured, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(task: object) -> None:
        raise RuntimeError("no space left on device")

    monkeypatch.setattr(PROCESS, "carry_out", fail)

    assert foo.client.set("a", "b") is True
    assert foo.client.get("a") == b"b"


# Pipelines


def test_a_pipeline_is_one_request(foo: Measured) -> None:
    with foo.client.pipeline("load") as pipeline:
        pipeline.set("a", "b").get("a").execute()

    assert foo.requests("pipeline") == {"true": 1}
    assert foo.commands == {"pipeline"}
    assert foo.active("pipeline") == 0


def test_a_pipeline_that_raises_is_a_failure(foo: Measured) -> None:
    with foo.client.pipeline("load") as pipeline, pytest.raises(redis.ResponseError):
        pipeline.set("a", "text").lpush("a", "b").execute()

    assert foo.requests("pipeline") == {"false": 1}
    assert foo.active("pipeline") == 0


def test_a_failure_among_the_results_of_a_pipeline_is_a_failure(foo: Measured) -> None:
    with foo.client.pipeline("load", transaction=False) as pipeline:
        pipeline.set("a", "text").lpush("a", "b").execute(raise_on_error=False)

    assert foo.requests("pipeline") == {"false": 1}
    assert foo.sample("latency_seconds_count", "pipeline", redis_success="false") == 1


def test_an_empty_pipeline_is_no_request(foo: Measured) -> None:
    with foo.client.pipeline("load") as pipeline:
        pipeline.execute()

    assert foo.commands == set()


def test_a_watched_key_that_changed_is_no_failure(foo: Measured) -> None:
    with foo.client.pipeline("count") as pipeline:
        pipeline.watch("a")
        foo.client.set("a", "other")
        pipeline.multi()
        pipeline.set("a", "mine")
        with pytest.raises(redis.WatchError):
            pipeline.execute()

    assert foo.requests("pipeline") == {"true": 1}
    assert foo.active("pipeline") == 0


def test_what_a_pipeline_sends_at_once_is_counted_by_command(foo: Measured) -> None:
    with foo.client.pipeline("count") as pipeline:
        pipeline.watch("a")
        pipeline.get("a")
        pipeline.multi()
        pipeline.set("a", "1")
        pipeline.execute()

    assert foo.requests("watch") == foo.requests("get") == {"true": 1}
    assert foo.requests("pipeline") == {"true": 1}
    assert foo.requests("set") == {}


# The label redis_command


@pytest.mark.parametrize("command", ["get", "GET", b"GET", "GET secret-key"])
def test_a_commands_label_is_its_name_in_lower_case(foo: Measured, command: Any) -> None:
    arguments = [] if "secret" in str(command) else ["a"]
    foo.client.execute_command(command, *arguments)

    assert foo.commands == {"get"}


def test_a_subcommand_is_part_of_the_label(foo: Measured) -> None:
    foo.client.config_get("maxmemory")

    assert foo.commands == {"config get"}


def test_a_command_that_is_called_pipeline_is_not_taken_for_one(foo: Measured) -> None:
    with pytest.raises(redis.ResponseError):
        foo.client.execute_command("pipeline")

    assert foo.commands == {"other"}


def test_names_that_are_made_up_share_one_label(foo: Measured) -> None:
    for number in range(1100):
        with pytest.raises(redis.ResponseError):
            foo.client.execute_command(f"MADEUP{number}", "secret")
        if not number % 100:
            with pytest.raises(redis.ResponseError):
                foo.client.execute_command("CONFIG", f"SECRET{number}")

    assert foo.commands == {"other", "config"}
    assert foo.requests("other") == {"false": 1100}
    (observer,) = foo.pool.observers
    assert len(observer._series) <= 1024


# Requests under way


def test_a_command_is_active_until_it_is_over(foo: Measured) -> None:
    thread = threading.Thread(target=foo.client.blpop, args=("jobs",))
    thread.start()
    wait_until(lambda: foo.active("blpop") == 1)

    foo.client.rpush("jobs", "work")
    thread.join()

    assert foo.active("blpop") == 0
    assert foo.requests("blpop") == {"true": 1}


def test_an_interrupted_command_is_a_failure_and_active_no_longer(
    foo: Measured, valkey: Server
) -> None:
    thread = interrupt_when_blocked(valkey)
    with pytest.raises(KeyboardInterrupt):
        foo.client.blpop("jobs")
    thread.join()

    assert foo.active("blpop") == 0
    assert foo.requests("blpop") == {"false": 1}


def test_a_command_whose_end_was_never_told_is_active_no_longer(foo: Measured) -> None:
    monitor = foo.client.client_telemetry
    # As when a signal handler raises between the two lines of whoever starts it.
    lost = monitor.start_command(foo.client.server_span, ("GET", "a"))
    assert foo.active("get") == 1

    del lost
    gc.collect()

    assert foo.active("get") == 0


def test_threads_lose_no_request(foo: Measured, measure: Callable[..., Measured]) -> None:
    busy = measure(foo.pool.client_settings.url, max_connections="8")

    def work() -> None:
        for _ in range(200):
            busy.client.get("a")

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert busy.requests("get") == {"true": 1600}
    assert busy.active("get") == 0


class RunsWhileAdded:
    """A number during whose addition something else runs: prometheus_client has its lock then."""

    def __init__(self, run: Callable[[], object]) -> None:
        self.run = run

    def __lt__(self, other: float) -> bool:
        return False

    def __radd__(self, other: float) -> float:
        self.run()
        return other


def test_a_command_of_a_signal_handler_that_interrupts_a_measurement_is_counted(
    foo: Measured,
) -> None:
    foo.client.get("a")
    interrupted: Any = RunsWhileAdded(lambda: foo.client.get("a"))
    counter = REQUESTS.labels("get", "0", foo.name, "standalone", "true")

    # Not here: it would wait for ever if it waited for itself.
    addition = partial(counter.inc, interrupted)
    thread = threading.Thread(target=PROCESS.carry_out, args=(addition,), daemon=True)
    thread.start()
    thread.join(30)

    assert not thread.is_alive()
    assert foo.requests("get") == {"true": 2}


# Pools


def test_a_pools_size_and_its_connections_are_shown(foo: Measured) -> None:
    assert foo.pooled("max_size") == 2
    assert (foo.pooled("active_connections"), foo.pooled("idle_connections")) == (0, 0)

    held = foo.pool.get_connection()
    assert (foo.pooled("active_connections"), foo.pooled("idle_connections")) == (1, 0)

    foo.pool.release(held)
    assert (foo.pooled("active_connections"), foo.pooled("idle_connections")) == (1, 1)


def test_pools_of_one_name_are_added_up_while_they_live(valkey: Server) -> None:
    def build() -> Any:
        factory: Any = RedisClient().parse("twice", {"twice.url": valkey.url})
        observe_client(factory)
        return factory

    def size() -> float | None:
        return REGISTRY.get_sample_value("redis_client_pool_max_size", {"redis_pool": "twice"})

    first, second = build(), build()
    assert size() == 100

    del first
    gc.collect()
    assert size() == 50
    del second


def test_a_client_that_is_observed_twice_is_counted_once(foo: Measured) -> None:
    observe_client(foo.factory)
    foo.client.get("a")

    assert foo.requests("get") == {"true": 1}
    assert foo.pooled("max_size") == 2


# Topologies


def test_a_clusters_client_is_of_type_cluster(
    measure: Callable[..., Measured], cluster: Cluster
) -> None:
    clustered = measure(cluster, redis_type="cluster", max_connections="7")
    clustered.client.set("a", "b")
    with clustered.client.pipeline("load") as pipeline:
        pipeline.get("a").get("b").execute()

    assert clustered.requests("set") == {"true": 1}
    assert clustered.requests("pipeline") == {"true": 1}
    figures = clustered.pool.stats
    assert clustered.pooled("max_size") == figures.max == 7 * len(clustered.pool.pools)
    assert clustered.pooled("active_connections") == figures.open
    assert clustered.pooled("idle_connections") == figures.idle > 0


def test_a_client_behind_sentinel_is_of_type_standalone(
    measure: Callable[..., Measured], sentinels: SentinelSet
) -> None:
    watched = measure(sentinels)
    watched.client.set("a", "b")

    assert watched.requests("set") == {"true": 1}
    assert watched.pooled("idle_connections") == 1


# Forks


def in_child(run: Callable[[], bool]) -> int:
    """Fork; the child's exit status, 0 if what it ran was true in less than a minute."""
    child = os.fork()
    if child == 0:
        signal.alarm(60)
        status = 2
        try:
            status = 0 if run() else 1
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def test_a_forked_process_has_its_own_requests_under_way(foo: Measured) -> None:
    thread = threading.Thread(target=foo.client.blpop, args=("jobs",))
    thread.start()
    wait_until(lambda: foo.active("blpop") == 1)

    assert in_child(lambda: foo.active("blpop") == 0) == 0
    assert foo.active("blpop") == 1

    foo.client.rpush("jobs", "work")
    thread.join()
    assert foo.active("blpop") == 0


def test_a_forked_process_counts_what_it_does_and_the_parent_does_not(foo: Measured) -> None:
    foo.client.get("a")

    def get() -> bool:
        foo.client.get("a")
        return foo.requests("get") == {"true": 2} and foo.pooled("active_connections") == 1

    assert in_child(get) == 0
    assert foo.requests("get") == {"true": 1}


def test_any_thread_of_a_forked_process_may_count(foo: Measured) -> None:
    def get() -> bool:
        thread = threading.Thread(target=foo.client.get, args=("a",), daemon=True)
        thread.start()
        thread.join(30)
        return foo.requests("get") == {"true": 1}

    assert in_child(get) == 0


def test_a_fork_waits_for_the_measurement_of_another_thread(foo: Measured) -> None:
    foo.client.get("a")
    is_adding, go_on = threading.Event(), threading.Event()

    def add() -> None:
        is_adding.set()
        go_on.wait(30)

    counter = REQUESTS.labels("get", "0", foo.name, "standalone", "true")
    amount: Any = RunsWhileAdded(add)
    thread = threading.Thread(target=PROCESS.carry_out, args=(partial(counter.inc, amount),))
    thread.start()
    is_adding.wait(30)
    threading.Timer(0.1, go_on.set).start()

    # Forked in between, the child would wait for prometheus_client's lock for ever.
    code = in_child(lambda: foo.client.get("a") is None)
    thread.join()

    assert code == 0


# Switched on by a setting


def test_it_is_off_by_default(make_config: Callable[..., Any]) -> None:
    config = make_config(foo__url="redis://localhost")
    config.commit()

    assert observers_of(config, "foo") == []


def observers_of(config: Any, name: str) -> list[Any]:
    from pyramid_baseplate_redis.interfaces import IRedisContextFactory

    factory = config.registry.getUtility(IRedisContextFactory, name)
    observers: list[Any] = factory.connection_pool.observers
    return observers


def test_a_setting_switches_it_on_for_every_client(make_config: Callable[..., Any]) -> None:
    config = make_config(
        foo__url="redis://localhost",
        bar__url="redis+cluster://localhost",
        baseplate_redis__prometheus="true",
    )
    config.commit()

    for name in ("foo", "bar"):
        assert [type(each) for each in observers_of(config, name)] == [PrometheusObserver]


def test_a_client_that_stands_in_for_another_in_tests_is_measured_too(
    make_config: Callable[..., Any], valkey: Server
) -> None:
    config = make_config(
        foo__url="redis://localhost",
        baseplate_redis__prometheus="true",
        baseplate_redis__testing__url=valkey.url,
    )
    config.include("pyramid_baseplate_redis.testing")
    config.commit()

    assert [type(each) for each in observers_of(config, "foo")] == [PrometheusObserver]


def test_an_application_can_be_built_twice_in_one_process(make_config: Callable[..., Any]) -> None:
    for _ in range(2):
        config = make_config(foo__url="redis://localhost", baseplate_redis__prometheus="true")
        config.make_wsgi_app()
        assert len(observers_of(config, "foo")) == 1


def test_a_malformed_setting_is_refused(make_config: Callable[..., Any]) -> None:
    config = make_config(foo__url="redis://localhost", baseplate_redis__prometheus="perhaps")

    with pytest.raises(ConfigurationExecutionError, match=r"\.prometheus: 'perhaps'") as raised:
        config.commit()
    assert raised.value.etype is ConfigurationError


def test_without_prometheus_client_the_error_names_the_extra(
    make_config: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    monkeypatch.delitem(sys.modules, "pyramid_baseplate_redis.prometheus.instruments")
    config = make_config(foo__url="redis://localhost", baseplate_redis__prometheus="true")

    wanted = r"baseplate_redis\.prometheus: .*'pyramid_baseplate_redis\[prometheus\]'"
    with pytest.raises(ConfigurationExecutionError, match=wanted) as raised:
        config.commit()
    assert raised.value.etype is ConfigurationError


def test_a_directory_for_the_files_that_is_missing_is_refused(
    make_config: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", "/nowhere/at/all")
    config = make_config(foo__url="redis://localhost", baseplate_redis__prometheus="true")

    wanted = r"baseplate_redis\.prometheus: PROMETHEUS_MULTIPROC_DIR is '/nowhere/at/all'"
    with pytest.raises(ConfigurationExecutionError, match=wanted) as raised:
        config.commit()
    assert raised.value.etype is ConfigurationError


NAME_TAKEN = """
from prometheus_client import Counter
from pyramid.config import Configurator
from pyramid.exceptions import ConfigurationExecutionError
from pyramid_baseplate_redis import ConfigurationError

Counter("redis_client_requests", "mine")
settings = {"foo.url": "redis://localhost", "baseplate_redis.prometheus": "true"}
config = Configurator(settings=settings)
config.include("pyramid_baseplate_redis")
try:
    config.commit()
except ConfigurationExecutionError as error:
    assert error.etype is ConfigurationError
    raise SystemExit("baseplate_redis.prometheus: something else has reg" not in str(error))
raise SystemExit(2)
"""


def test_a_metric_of_the_applications_own_with_the_same_name_is_an_error() -> None:
    command = [sys.executable, "-c", NAME_TAKEN]
    assert subprocess.run(command, check=False, timeout=60).returncode == 0
