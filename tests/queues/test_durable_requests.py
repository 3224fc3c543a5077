"""Durable queues of an application: declared in code or in settings, put after the commit."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
import redis
import transaction
from pyramid.config import Configurator
from pyramid.exceptions import ConfigurationExecutionError
from pyramid.request import Request, apply_request_extensions
from webtest import TestApp

from pyramid_baseplate_redis import (
    ConfigurationError,
    DurableMessageQueue,
    MessageQueue,
    MessageQueueError,
    server_context,
)
from pyramid_baseplate_redis.interfaces import IMessageQueueFactory

from ..support.servers import Server

MakeConfig = Callable[..., Configurator]
NOWHERE = "redis://localhost:1"


def request_of(config: Configurator) -> Any:
    config.commit()
    request = Request.blank("/")
    request.registry = config.registry
    apply_request_extensions(request)
    return request


def refusal(config: Configurator) -> str:
    with pytest.raises(ConfigurationExecutionError) as caught:
        config.make_wsgi_app()
    error = caught.value.evalue
    assert isinstance(error, ConfigurationError)
    return str(error)


# Declared in code


def test_a_durable_queue_is_declared_in_code(make_config: MakeConfig) -> None:
    config = make_config(foo__url=NOWHERE)
    config.add_message_queue(
        "jobs", client="foo", durable=True, lease="1 minute", max_attempts=3, max_length=10,
        delay=timedelta(seconds=5), group="others", trace_parent=True,
    )  # fmt: skip
    queue = request_of(config).jobs
    assert isinstance(queue, DurableMessageQueue)
    assert (queue.queue, queue.lease) == ("jobs", timedelta(minutes=1))
    assert (queue.max_attempts, queue.max_length) == (3, 10)


def test_a_request_makes_a_durable_queue_of_any_name(
    make_config: MakeConfig, valkey: Server
) -> None:
    request = request_of(make_config(foo__url=valkey.url))
    queue = request.foo.durable_queue("jobs", max_attempts=2)
    queue.put("job")
    assert queue.get(5) == b"job"


def test_the_settings_fill_in_what_the_code_leaves_out(make_config: MakeConfig) -> None:
    config = make_config(foo__url=NOWHERE, jobs__lease="1 minute", jobs__max_attempts="3")
    config.add_message_queue("jobs", durable=True, max_attempts=7)
    queue = request_of(config).jobs
    assert (queue.lease, queue.max_attempts) == (timedelta(minutes=1), 7)


def test_a_prefix_that_a_declared_queue_shares_with_another_package_is_left_alone(
    make_config: MakeConfig,
) -> None:
    config = make_config(foo__url=NOWHERE, jobs__colour="red")
    config.add_message_queue("jobs")
    assert isinstance(request_of(config).jobs, MessageQueue)


# Declared in the settings


def test_the_settings_declare_a_queue(make_config: MakeConfig) -> None:
    request = request_of(make_config(foo__url=NOWHERE, jobs__queue="foo"))
    assert isinstance(request.jobs, MessageQueue)


def test_the_settings_declare_a_durable_queue(make_config: MakeConfig) -> None:
    config = make_config(
        foo__url=NOWHERE, bar__url=NOWHERE, jobs__queue=" bar ", jobs__durable="true",
        jobs__lease="1 minute", jobs__max_attempts="3", jobs__max_length="10",
        jobs__delay="5 seconds", jobs__group="others", jobs__trace_parent="yes",
    )  # fmt: skip
    request = request_of(config)
    assert isinstance(request.jobs, DurableMessageQueue)
    assert request.jobs is request.jobs
    assert request.jobs.client is request.bar
    assert (request.jobs.lease, request.jobs.max_length) == (timedelta(minutes=1), 10)


def test_a_queue_of_the_settings_may_be_on_a_declared_client(make_config: MakeConfig) -> None:
    config = make_config(jobs__queue="foo")
    config.add_settings({"foo.url": NOWHERE})
    config.add_redis_client("foo")
    assert isinstance(request_of(config).jobs, MessageQueue)


def test_what_the_application_declares_wins_over_the_settings(make_config: MakeConfig) -> None:
    config = make_config(foo__url=NOWHERE, bar__url=NOWHERE, jobs__queue="foo")
    config.add_message_queue("jobs", client="bar")
    request = request_of(config)
    assert request.jobs.client is request.bar


def test_what_another_include_declares_wins_too(make_config: MakeConfig) -> None:
    config = make_config(foo__url=NOWHERE, bar__url=NOWHERE, jobs__queue="foo")
    config.include(lambda config: config.add_message_queue("jobs", client="bar"))
    request = request_of(config)
    assert request.jobs.client is request.bar


def test_a_setting_called_queue_that_names_no_client_is_another_packages(
    make_config: MakeConfig,
) -> None:
    config = make_config(foo__url=NOWHERE, celery__queue="default", a__b__queue="foo")
    config.make_wsgi_app()
    assert list(config.registry.getUtilitiesFor(IMessageQueueFactory)) == []


def test_only_the_queues_that_are_named_are_read(make_config: MakeConfig) -> None:
    config = make_config(
        foo__url=NOWHERE, jobs__queue="foo", other__queue="foo", baseplate_redis__queues="jobs"
    )
    config.make_wsgi_app()
    assert [name for name, _ in config.registry.getUtilitiesFor(IMessageQueueFactory)] == ["jobs"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"jobs__leese": "1 minute"}, r"jobs.leese: unknown setting; did you mean jobs.lease?"),
        ({"jobs__lease": "60"}, "jobs.lease: '60' has no unit"),
        ({"jobs__max_attempts": "0"}, "jobs.max_attempts: 0 is out of range"),
        ({"jobs__durable": "maybe"}, "jobs.durable: 'maybe' is neither true nor false"),
        ({"jobs__durable": "false", "jobs__lease": "1 min"}, "jobs.lease: needs a durable queue"),
        ({"jobs__delay": "-1 s"}, "jobs.delay: '-1 s' is negative"),
        ({"jobs__backoff": "60"}, "jobs.backoff: '60' has no unit"),
        ({"jobs__backoff": ""}, "jobs.backoff: '' is not a time span"),
        ({"jobs__backoff": "1 s", "jobs__delay": "1 s"}, "jobs.delay: contradicts jobs.backoff,"),
        ({"jobs__queue": "fooo"}, "message queue jobs: there is no Redis client 'fooo'"),
        ({"foo__queue": "foo"}, "foo.queue: unknown setting"),
        ({"baseplate_redis__queues": "mails"}, "mails.queue: is missing"),
        ({"path__queue": "foo"}, "path.queue: request.path is Pyramid's own"),
    ],
)
def test_malformed_settings_are_errors_when_the_application_is_built(
    make_config: MakeConfig, settings: dict[str, str], message: str
) -> None:
    given = {"foo__url": NOWHERE, "jobs__queue": "foo", "jobs__durable": "true", **settings}
    assert refusal(make_config(**given)).startswith(message)


def test_an_attribute_of_the_applications_own_is_not_replaced(make_config: MakeConfig) -> None:
    config = make_config(foo__url=NOWHERE, jobs__queue="foo")
    config.add_request_method(lambda request: "mine", "jobs", reify=True)
    assert refusal(config) == (
        "jobs.queue: the application already defines request.jobs; choose another name for the "
        "message queue, or list the message queues in baseplate_redis.queues"
    )


def test_a_durable_queue_is_introspectable_without_its_clients_password(
    make_config: MakeConfig,
) -> None:
    config = make_config(
        foo__url="redis://:secret@localhost", jobs__queue="foo", jobs__durable="true"
    )
    config.make_wsgi_app()
    shown = config.introspector.get("redis message queues", "jobs")
    assert (shown["client"], shown["durable"], shown["max_attempts"]) == ("foo", True, 6)
    assert "secret" not in repr(dict(shown))


def test_a_script_has_the_queue_too(make_config: MakeConfig, valkey: Server) -> None:
    config = make_config(foo__url=valkey.url, jobs__queue="foo", jobs__durable="true")
    config.make_wsgi_app()
    with server_context(config.registry, "script") as context:
        context.jobs.put("job")
        assert context.jobs.get(5) == b"job"
        with pytest.raises(MessageQueueError, match="after_commit needs a transaction"):
            context.jobs.put("job", after_commit=True)


def test_the_length_of_a_durable_queue_is_a_metric_too(
    make_config: MakeConfig, valkey: Server
) -> None:
    config = make_config(foo__url=valkey.url, jobs__queue="foo", jobs__durable="true")
    request = request_of(config)
    request.jobs.put_many(["a", "b"])
    assert config.registry.getUtility(IMessageQueueFactory, "jobs").length.length() == 2


def test_an_application_that_is_tested_has_durable_queues_too(make_config: MakeConfig) -> None:
    config = make_config(foo__url=NOWHERE, jobs__queue="foo", jobs__durable="true")
    config.include("pyramid_baseplate_redis.testing")
    request = request_of(config)
    request.jobs.put("job")
    assert request.jobs.get(5) == b"job"


# After the commit


@pytest.fixture
def raw(valkey: Server) -> Iterator[Any]:
    with redis.Redis(port=valkey.port) as client:
        yield client


@pytest.fixture
def make_app(make_config: MakeConfig, valkey: Server) -> Callable[..., TestApp]:
    """Make an application whose view is given."""

    def make(view: Callable[[Any], Any], *includes: str, **settings: str) -> TestApp:
        config = make_config(
            foo__url=valkey.url, jobs__queue="foo", jobs__durable="true", **settings
        )
        for include in includes:
            config.include(include)
        config.add_route("home", "/")
        config.add_view(view, route_name="home", renderer="json")
        return TestApp(config.make_wsgi_app())

    return make


MANAGERS = pytest.mark.parametrize(
    "settings",
    [{}, {"tm__manager_hook": "pyramid_tm.explicit_manager"}],
    ids=["the thread's transaction manager", "an explicit one"],
)


@MANAGERS
def test_a_message_is_put_when_the_transaction_is_committed(
    make_app: Callable[..., TestApp], raw: Any, settings: dict[str, str]
) -> None:
    def view(request: Any) -> Any:
        assert request.jobs.put("job", after_commit=True) is None
        request.foo.durable_queue("jobs").put("another", after_commit=True)
        return raw.exists("{jobs}:messages")

    assert make_app(view, "pyramid_tm", **settings).get("/").json == 0
    assert [fields[b"body"] for _, fields in raw.xrange("{jobs}:messages")] == [b"job", b"another"]


def test_a_client_that_keeps_its_connection_has_the_requests_transaction(
    make_app: Callable[..., TestApp], raw: Any
) -> None:
    def view(request: Any) -> Any:
        with request.foo.client() as single:
            single.durable_queue("jobs").put("job", after_commit=True)
        return raw.exists("{jobs}:messages")

    assert make_app(view, "pyramid_tm").get("/").json == 0
    assert [fields[b"body"] for _, fields in raw.xrange("{jobs}:messages")] == [b"job"]


@MANAGERS
def test_a_message_is_dropped_when_the_transaction_is_aborted(
    make_app: Callable[..., TestApp], raw: Any, settings: dict[str, str]
) -> None:
    def view(request: Any) -> Any:
        request.jobs.put("job", after_commit=True)
        raise KeyError("aborted")

    with pytest.raises(KeyError):
        make_app(view, "pyramid_tm", **settings).get("/")
    assert raw.exists("{jobs}:messages") == 0


def test_a_message_is_dropped_when_the_transaction_is_doomed(
    make_app: Callable[..., TestApp], raw: Any
) -> None:
    def view(request: Any) -> Any:
        request.jobs.put("job", after_commit=True)
        request.tm.doom()
        return "doomed"

    make_app(view, "pyramid_tm").get("/")
    assert raw.exists("{jobs}:messages") == 0


class RefusesToCommit:
    """A database that can't commit in the end."""

    transaction_manager = transaction.manager

    def sortKey(self) -> str:  # noqa: N802
        return "refuses"

    def tpc_vote(self, transaction: Any) -> None:
        raise KeyError("no")

    def nothing(self, transaction: Any) -> None:
        pass

    abort = commit = tpc_begin = tpc_finish = tpc_abort = nothing


def test_a_message_is_dropped_when_the_commit_fails(
    make_app: Callable[..., TestApp], raw: Any
) -> None:
    def view(request: Any) -> Any:
        request.jobs.put("job", after_commit=True)
        request.tm.get().join(RefusesToCommit())

    with pytest.raises(KeyError):
        make_app(view, "pyramid_tm").get("/")
    assert raw.exists("{jobs}:messages") == 0


def test_a_message_without_after_commit_waits_for_nothing(
    make_app: Callable[..., TestApp], raw: Any
) -> None:
    def view(request: Any) -> Any:
        request.jobs.put("job")
        raise KeyError("aborted")

    with pytest.raises(KeyError):
        make_app(view, "pyramid_tm").get("/")
    assert raw.xlen("{jobs}:messages") == 1


def test_after_commit_without_pyramid_tm_is_an_error(make_app: Callable[..., TestApp]) -> None:
    def view(request: Any) -> Any:
        request.jobs.put("job", after_commit=True)

    with pytest.raises(MessageQueueError, match=r"after_commit needs .*request\.tm\. .*pyramid_tm"):
        make_app(view).get("/")


@MANAGERS
def test_after_commit_outside_of_a_transaction_is_an_error(
    make_app: Callable[..., TestApp], settings: dict[str, str]
) -> None:
    app = make_app(lambda request: None, "pyramid_tm", **settings)
    request = Request.blank("/")
    request.registry = app.app.registry
    apply_request_extensions(request)
    with pytest.raises(MessageQueueError, match="after_commit needs a transaction"):
        request.jobs.put("job", after_commit=True)


def test_what_is_neither_bytes_nor_text_is_refused_before_the_commit(
    make_app: Callable[..., TestApp],
) -> None:
    with pytest.raises(TypeError, match="neither bytes nor text"):
        make_app(lambda request: request.jobs.put(5, after_commit=True), "pyramid_tm").get("/")


def test_a_failure_after_the_commit_is_logged(
    make_app: Callable[..., TestApp], raw: Any, caplog: pytest.LogCaptureFixture
) -> None:
    def view(request: Any) -> Any:
        request.jobs.put("a secret", after_commit=True)

    raw.set("{jobs}:messages", "something else")
    make_app(view, "pyramid_tm").get("/")
    (record,) = [each for each in caplog.records if each.levelno == logging.ERROR]
    assert "queue jobs: a message was lost" in record.getMessage()
    assert "WRONGTYPE" in caplog.text
    assert "secret" not in caplog.text


def test_a_transaction_manager_of_ones_own_does(valkey: Server) -> None:
    manager = transaction.TransactionManager(explicit=True)
    queue = DurableMessageQueue(
        "jobs", redis.Redis(port=valkey.port), transaction_manager=lambda: manager
    )
    with manager:
        queue.put("job", after_commit=True)
        assert queue.stats().length == 0
    assert queue.get(5) == b"job"
