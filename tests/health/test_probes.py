"""``ping_all()``: clients that answer, clients that do not, and what hangs."""

from __future__ import annotations

import dataclasses
import os
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from pyramid.config import Configurator
from pyramid.registry import Registry
from redis.backoff import ConstantBackoff
from redis.retry import Retry

from pyramid_baseplate_redis import (
    CircuitOpenError,
    ClientHealth,
    RedisClient,
    RedisContextFactory,
    ping_all,
)
from pyramid_baseplate_redis.interfaces import IRedisContextFactory

from ..faults.helpers import in_child
from ..support.health import PATIENT, only, pool_of
from ..support.servers import Server, free_port, running_server, wait_until
from ..support.topologies import Cluster, SentinelSet

MakeConfig = Callable[..., Configurator]
DOWN = redis.ConnectionError("down")


@pytest.fixture
def asked(make_config: MakeConfig) -> Callable[..., ClientHealth]:
    """Make an application with the client ``foo``, and ask for its health."""

    def ask(url: str, client: RedisClient | None = None, **settings: str) -> ClientHealth:
        own = {f"foo__{key}": value for key, value in settings.items()}
        config = make_config(foo__url=url, **{"foo__health_timeout": PATIENT, **own})
        if client is not None:
            config.add_redis_client("foo", client)
        config.commit()
        return only(config)

    return ask


# ping_all


def test_a_server_introduces_itself(asked: Any, server: Server) -> None:
    with redis.Redis(port=server.port) as client:
        info = client.info("server")
    health = asked(server.url)
    assert (health.server, health.server_version, health.role) == (
        server.software,
        info.get("valkey_version") or info["redis_version"],
        "master",
    )


@pytest.mark.parametrize("protocol", ["2", "3"])
@pytest.mark.parametrize("decode", ["true", "false"])
def test_a_server_is_understood_however_it_replies(
    asked: Any, valkey: Server, protocol: str, decode: str
) -> None:
    health = asked(valkey.url, protocol=protocol, decode_responses=decode)
    assert (health.ok, health.server) == (True, "valkey")


def test_clients_come_in_the_order_of_their_names(make_config: MakeConfig, valkey: Server) -> None:
    config = make_config(zoo__url=valkey.url, foo__url=valkey.url, bar__url=valkey.url)
    config.add_redis_client("zoo")  # declared before the others are discovered
    config.commit()
    assert [client.name for client in ping_all(config.registry)] == ["bar", "foo", "zoo"]


def test_a_result_is_immutable(healthy: Configurator) -> None:
    healthy.commit()
    with pytest.raises(dataclasses.FrozenInstanceError):
        only(healthy).ok = False  # type: ignore[misc]


def test_a_server_that_is_down_is_reported_by_its_error(failing: Configurator) -> None:
    failing.commit()
    health = only(failing)
    assert (health.ok, health.latency, type(health.error)) == (False, None, redis.ConnectionError)


def test_redis_py_s_own_retries_are_not_of_a_probe(asked: Any) -> None:
    retry = Retry(ConstantBackoff(3600), 1)
    health = asked(f"redis://127.0.0.1:{free_port()}", RedisClient(retry=retry))
    assert type(health.error) is redis.ConnectionError


def test_a_wrong_password_is_reported_by_its_error(asked: Any, tmp_path: Path) -> None:
    with running_server("valkey", tmp_path, "--requirepass", "right") as server:
        error = asked(server.url, password="the-secret").error
    assert isinstance(error, redis.AuthenticationError)
    assert "the-secret" not in str(error)


def test_a_pool_that_is_exhausted_is_no_failure(make_config: MakeConfig, valkey: Server) -> None:
    config = make_config(foo__url=valkey.url, foo__max_connections="1", foo__health_timeout=PATIENT)
    pool = pool_of(config)
    taken = pool.get_connection()
    try:
        before = pool.stats
        assert only(config).ok
        assert pool.stats == before
    finally:
        pool.release(taken)


def test_a_probe_leaves_no_connection_behind(make_config: MakeConfig, valkey: Server) -> None:
    config = make_config(foo__url=valkey.url, foo__client_name="probe", foo__health_timeout=PATIENT)
    config.commit()
    assert only(config).ok
    with redis.Redis(port=valkey.port) as client:
        wait_until(lambda: all(each["name"] != "probe" for each in client.client_list()))


def test_a_pool_without_settings_is_asked_too(valkey: Server) -> None:
    registry = Registry()
    plain = redis.BlockingConnectionPool(port=valkey.port)
    registry.registerUtility(RedisContextFactory(plain), IRedisContextFactory, "foo")
    (health,) = ping_all(registry)
    assert (health.ok, health.required) == (True, True)


def test_an_embedded_server_is_started_and_asked(asked: Any) -> None:
    assert asked("embedded://").ok


@pytest.mark.parametrize(("read_from", "role"), [("primary", "master"), ("replica", "replica")])
def test_sentinels_are_asked_where_the_server_is(
    asked: Any, sentinels: SentinelSet, read_from: str, role: str
) -> None:
    assert asked(sentinels.url, read_from=read_from).role == role


@pytest.fixture
def whole_cluster(valkey_cluster: Cluster) -> Iterator[Cluster]:
    """A Cluster of which a test may kill nodes."""
    valkey_cluster.tidy()
    yield valkey_cluster
    valkey_cluster.tidy()


@pytest.fixture
def in_cluster(make_config: MakeConfig, whole_cluster: Cluster) -> Configurator:
    """An application whose client ``foo`` is of a Cluster that answers."""
    config = make_config(foo__url=whole_cluster.url, foo__health_timeout=PATIENT)
    config.commit()
    assert only(config).ok
    return config


def test_of_a_cluster_the_primaries_are_asked(in_cluster: Configurator) -> None:
    health = only(in_cluster)
    assert (health.server, health.role) == ("valkey", "master")


def test_a_primary_of_a_cluster_that_is_down_is_a_failure(
    in_cluster: Configurator, whole_cluster: Cluster
) -> None:
    killed = whole_cluster.primaries()[-1]
    killed.kill()
    assert str(killed.port) in str(only(in_cluster).error)


@pytest.mark.slow("waits for a failover")
def test_a_replica_that_takes_over_is_found_without_any_request(
    in_cluster: Configurator, whole_cluster: Cluster
) -> None:
    killed = whole_cluster.primaries()[0]
    killed.kill()
    whole_cluster.wait_for_new_primary(killed)
    wait_until(lambda: only(in_cluster).ok, 30)


# The circuit breaker


@pytest.fixture
def make_opened(make_config: MakeConfig) -> Callable[..., Configurator]:
    """Make an application whose circuit breaker is open."""

    def make(url: str, reset: str) -> Configurator:
        config = make_config(
            foo__url=url,
            foo__health_timeout=PATIENT,
            foo__breaker_failures="1",
            foo__breaker_reset=reset,
        )
        pool_of(config).breaker.failed(DOWN)
        return config

    return make


def test_an_open_circuit_breaker_is_a_failure_at_once(make_opened: Any, valkey: Server) -> None:
    assert isinstance(only(make_opened(valkey.url, "1 hour")).error, CircuitOpenError)


def test_a_probe_tries_whether_the_server_is_back_and_closes_the_breaker(
    make_opened: Any, valkey: Server
) -> None:
    config = make_opened(valkey.url, "1 ms")
    wait_until(lambda: only(config).ok)
    assert not pool_of(config).breaker.is_open


def test_a_probe_that_tries_in_vain_leaves_the_breaker_open(make_opened: Any) -> None:
    config = make_opened(f"redis://127.0.0.1:{free_port()}", "1 ms")
    wait_until(lambda: type(only(config).error) is redis.ConnectionError)
    assert pool_of(config).breaker.is_open


def test_a_probe_that_fails_does_not_open_the_breaker(make_config: MakeConfig) -> None:
    config = make_config(
        foo__url=f"redis://127.0.0.1:{free_port()}",
        foo__health_timeout=PATIENT,
        foo__breaker_failures="1",
    )
    breaker = pool_of(config).breaker
    assert not only(config).ok
    assert not breaker.is_open


# What may take for ever


@pytest.fixture
def hanging_lookup(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """A look-up of ``localhost`` takes until the event; in a forked process it doesn't.

    The look-ups of other names are bounded.
    """
    going_on, process = threading.Event(), os.getpid()
    look_up = socket.getaddrinfo

    def hang(host: str, *args: Any, **kwargs: Any) -> Any:
        if host == "localhost":
            if os.getpid() == process:
                assert going_on.wait(60)
            host = "127.0.0.1"
        return look_up(host, *args, **kwargs)

    monkeypatch.setattr(socket, "getaddrinfo", hang)
    yield going_on
    going_on.set()
    wait_until(lambda: not probing("foo"))


def probing(name: str) -> list[threading.Thread]:
    return [each for each in threading.enumerate() if each.name == f"redis health {name}"]


@pytest.fixture
def hanging(
    make_config: MakeConfig, valkey: Server, hanging_lookup: threading.Event
) -> Configurator:
    """An application the name of whose server is being looked up."""
    config = make_config(
        foo__url=f"redis://localhost:{valkey.port}",
        foo__health_timeout="50 ms",
        bar__url=valkey.url,
        bar__health_timeout=PATIENT,
    )
    config.commit()
    return config


def test_a_look_up_that_hangs_is_a_failure_when_the_time_is_up(hanging: Configurator) -> None:
    _, foo = ping_all(hanging.registry)
    assert isinstance(foo.error, redis.TimeoutError)
    assert str(foo.error) == "foo: no answer within 0.05 seconds (foo.health_timeout)"


def test_other_clients_are_asked_while_one_hangs(hanging: Configurator) -> None:
    bar, _ = ping_all(hanging.registry)
    assert bar.ok


def test_a_client_that_hangs_has_one_thread_however_often_it_is_asked(
    hanging: Configurator,
) -> None:
    for _ in range(5):
        ping_all(hanging.registry)
    assert len(probing("foo")) == 1


def test_a_client_that_hung_is_asked_anew_when_that_is_over(
    hanging: Configurator, hanging_lookup: threading.Event
) -> None:
    ping_all(hanging.registry)
    hanging_lookup.set()
    wait_until(lambda: all(client.ok for client in ping_all(hanging.registry)))


def test_a_forked_process_does_not_wait_for_its_parent_s_probe(
    hanging: Configurator,
) -> None:
    ping_all(hanging.registry)

    def ask_until_ok() -> bool:
        wait_until(lambda: all(client.ok for client in ping_all(hanging.registry)))
        return True

    assert in_child(ask_until_ok) is True


def test_a_system_without_a_thread_left_is_a_failure(
    healthy: Configurator, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    healthy.commit()
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        assert isinstance(only(healthy).error, RuntimeError)
    assert only(healthy).ok
