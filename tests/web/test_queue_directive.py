"""``add_message_queue()``: the queue's client, its list, conflicts, its introspectable."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from pyramid.config import Configurator
from pyramid.exceptions import ConfigurationConflictError, ConfigurationExecutionError

from pyramid_baseplate_redis import MessageQueue
from pyramid_baseplate_redis.interfaces import IMessageQueueFactory

from ..support.configurators import NOWHERE, introspectable, refusal, request_of
from ..support.servers import RecordedSpans, Server

MakeConfig = Callable[..., Configurator]


def a_queue(config: Configurator) -> None:
    config.add_message_queue("jobs", "foo")


def another_queue(config: Configurator) -> None:
    config.add_message_queue("jobs", "bar")


def test_a_message_queue_uses_the_only_client(make_config: MakeConfig) -> None:
    config = make_config(foo__url=NOWHERE)
    config.add_message_queue("jobs")
    config.commit()
    request = request_of(config)
    assert request.jobs.client is request.foo


def test_a_message_queue_uses_the_client_that_it_names(make_config: MakeConfig) -> None:
    config = make_config(foo__url=NOWHERE, bar__url=NOWHERE)
    config.add_message_queue("jobs", "bar")
    config.commit()
    request = request_of(config)
    assert request.jobs.client is request.bar


def test_a_message_queue_may_be_declared_before_its_client(make_config: MakeConfig) -> None:
    config = make_config(foo__url=NOWHERE, bar__url=NOWHERE)
    config.add_message_queue("jobs", client="bar")
    config.add_redis_client("bar")
    config.commit()
    assert config.registry.getUtility(IMessageQueueFactory, "jobs").client == "bar"


def test_a_message_queue_is_one_object_for_a_whole_request(make_config: MakeConfig) -> None:
    config = make_config(foo__url=NOWHERE)
    config.add_message_queue("jobs")
    config.commit()
    request = request_of(config)
    assert isinstance(request.jobs, MessageQueue)
    assert request.jobs is request.jobs


def test_a_message_queue_is_kept_in_the_list_of_its_name(
    make_config: MakeConfig, server: Server, spans: RecordedSpans
) -> None:
    config = make_config(foo__url=server.url)
    config.add_message_queue("jobs")
    config.commit()
    request = request_of(config)
    request.jobs.put(b"a message")
    assert request.foo.lrange("jobs", 0, -1) == [b"a message"]
    assert spans.names == ["foo.RPUSH", "foo.LRANGE"]


@pytest.mark.parametrize(
    ("client", "message"),
    [
        (None, "message queue jobs: name one of the Redis clients; configured: bar, foo"),
        ("baz", "message queue jobs: there is no Redis client 'baz'; configured: bar, foo"),
    ],
    ids=["ambiguous", "unknown"],
)
def test_a_message_queue_whose_client_is_not_clear_is_refused(
    make_config: MakeConfig, client: str | None, message: str
) -> None:
    config = make_config(foo__url=NOWHERE, bar__url=NOWHERE)
    config.add_message_queue("jobs", client)
    assert str(refusal(config)) == message


def test_a_message_queue_without_any_client_is_refused(make_config: MakeConfig) -> None:
    config = make_config()
    config.add_message_queue("jobs")
    assert str(refusal(config)) == (
        "message queue jobs: name one of the Redis clients; configured: none"
    )


def test_two_modules_that_declare_one_queue_are_in_conflict(make_config: MakeConfig) -> None:
    config = make_config(foo__url=NOWHERE, bar__url=NOWHERE)
    config.include(a_queue)
    config.include(another_queue)
    with pytest.raises(ConfigurationConflictError) as caught:
        config.commit()
    assert "('redis message queues', 'jobs')" in str(caught.value)


def test_a_queue_and_a_declared_client_of_one_name_are_in_conflict(
    make_config: MakeConfig,
) -> None:
    config = make_config(foo__url=NOWHERE)
    config.add_redis_client("foo")
    config.add_message_queue("foo")
    with pytest.raises(ConfigurationConflictError):
        config.commit()


def test_a_queue_and_a_discovered_client_of_one_name_are_refused(
    make_config: MakeConfig,
) -> None:
    config = make_config(foo__url=NOWHERE)
    config.add_message_queue("foo")
    with pytest.raises((ConfigurationConflictError, ConfigurationExecutionError), match="foo"):
        config.commit()


def test_a_message_queue_is_introspectable(make_config: MakeConfig) -> None:
    config = make_config(foo__url=NOWHERE)
    config.add_message_queue("jobs")
    config.commit()
    found = introspectable(config, "redis message queues", "jobs")
    assert (found.title, found.type_name, dict(found)) == (
        "jobs",
        "redis message queue",
        {"name": "jobs", "client": "foo"},
    )
