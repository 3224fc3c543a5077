"""The metrics of message queues, as a metric reader collects them."""

from __future__ import annotations

import gc
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest
import redis
from pyramid.config import Configurator

from pyramid_baseplate_redis import server_context
from pyramid_baseplate_redis.interfaces import IRedisContextFactory

from ..support.metrics import DURATION, Collected, numbers
from ..support.servers import RecordedSpans, Server
from ..support.topologies import Cluster

pytestmark = pytest.mark.usefixtures("provider")


def lengths() -> dict[str, Any]:
    points = Collected().points.get("pyramid_baseplate_redis.message_queue.length", [])
    return {
        point.attributes["messaging.destination.name"]: (
            point.value,
            point.unit,
            point.attributes["messaging.system"],
        )
        for point in points
    }


@contextmanager
def app_with_queue(url: str, **settings: str) -> Iterator[tuple[Any, str]]:
    """The registry of an application, and the name of its queue, which no other test's has."""
    name = f"jobs{next(numbers)}"
    keys = {f"foo.{key}": value for key, value in settings.items()}
    with Configurator(settings={"foo.url": url, **keys}) as config:
        config.include("pyramid_baseplate_redis")
        config.add_message_queue(name, client="foo")
    yield config.registry, name


def test_the_length_of_a_declared_queue_is_collected(server: Server) -> None:
    with app_with_queue(server.url) as (_, name):
        redis.Redis(port=server.port).rpush(name, "a", "b", "c")
        assert lengths()[name] == (3, "{message}", "redis")


def test_the_length_of_a_queue_in_a_cluster_is_collected(cluster: Cluster) -> None:
    with app_with_queue(cluster.url) as (_, name):
        address = cluster.addresses.partition(",")[0]
        redis.RedisCluster.from_url(f"redis://{address}").rpush(name, "a")
        assert lengths()[name][0] == 1


def test_the_length_is_not_known_while_the_server_is_down(mortal: Server) -> None:
    with app_with_queue(mortal.url) as (_, name):
        mortal.kill()
        assert name not in lengths()
        mortal.restart()
        assert lengths()[name][0] == 0


def test_asking_for_a_length_takes_no_connection_from_requests(valkey: Server) -> None:
    settings = {"max_connections": "1", "pool_timeout": "0 seconds"}
    with app_with_queue(valkey.url, **settings) as (registry, name):
        pool = registry.getUtility(IRedisContextFactory, "foo").connection_pool
        held = pool.get_connection()
        assert lengths()[name][0] == 0
        pool.release(held)


def test_the_queue_of_a_client_without_metrics_is_not_asked(valkey: Server) -> None:
    with app_with_queue(valkey.url, metrics="false") as (_, name):
        assert name not in lengths()


def test_a_queue_whose_application_is_gone_is_no_longer_asked(valkey: Server) -> None:
    with app_with_queue(valkey.url) as (registry, name):
        assert name in lengths()
    del registry
    gc.collect()
    assert name not in lengths()


@contextmanager
def app_with_durable_queue(url: str) -> Iterator[tuple[Any, str]]:
    name = f"jobs{next(numbers)}"
    with Configurator(settings={"foo.url": url}) as config:
        config.include("pyramid_baseplate_redis")
        config.add_message_queue(name, client="foo", durable=True, max_attempts=1, group="own")
    with server_context(config.registry, "test") as context:
        yield getattr(context, name), name


def of_queue(collected: Collected, name: str) -> dict[str, Any]:
    """What is told of a queue, with the units."""
    prefix = "pyramid_baseplate_redis.message_queue."
    return {
        metric.removeprefix(prefix): (point.value, point.unit)
        for metric, points in collected.points.items()
        for point in points
        if point.attributes.get("messaging.destination.name") == name and metric.startswith(prefix)
    }


def test_what_is_in_a_durable_queue_is_collected(server: Server) -> None:
    with app_with_durable_queue(server.url) as (queue, name):
        queue.put("dead")
        with suppress(ZeroDivisionError), queue.receive(timeout=1):
            raise ZeroDivisionError
        queue.put_many(["first", "second", "third"])
        queue.put("delayed", delay=60)
        time.sleep(0.05)
        with queue.receive(timeout=1) as message:
            message.give_back(60)
        with queue.receive(timeout=1):
            told = of_queue(Collected(), name)
    age, unit = told.pop("oldest_age")
    assert (unit, age >= 0.05, age < 60) == ("s", True, True)
    assert told == {
        "length": (2, "{message}"),
        "in_flight": (1, "{message}"),
        "delayed": (1, "{message}"),
        "waiting": (1, "{message}"),
        "dead_letters": (1, "{message}"),
    }


def test_what_is_in_an_empty_durable_queue_is_collected(valkey: Server) -> None:
    with app_with_durable_queue(valkey.url) as (_, name):
        assert of_queue(Collected(), name) == {
            "length": (0, "{message}"),
            "in_flight": (0, "{message}"),
            "delayed": (0, "{message}"),
            "waiting": (0, "{message}"),
            "oldest_age": (0, "s"),
            "dead_letters": (0, "{message}"),
        }


def test_a_durable_queue_is_asked_once_for_all_its_metrics(valkey: Server) -> None:
    gc.collect()  # the applications of other tests
    with app_with_durable_queue(valkey.url) as (_, name):
        Collected()
        with redis.Redis(port=valkey.port) as plain:
            plain.config_resetstat()
            Collected()
            calls = plain.info("commandstats")
        assert calls["cmdstat_xpending"]["calls"] == 1
        assert name in {
            point.attributes["messaging.destination.name"]
            for point in Collected().points["pyramid_baseplate_redis.message_queue.in_flight"]
        }


def test_asking_for_metrics_is_no_operation(valkey: Server, spans: RecordedSpans) -> None:
    with app_with_durable_queue(valkey.url):
        Collected()
        spans.clear()
        before = [point.value for point in Collected().points.get(DURATION, [])]
        assert [point.value for point in Collected().points.get(DURATION, [])] == before
        assert spans.names == []


def test_a_list_has_no_figures_of_a_durable_queue(valkey: Server) -> None:
    with app_with_queue(valkey.url) as (_, name):
        assert of_queue(Collected(), name) == {"length": (0, "{message}")}
