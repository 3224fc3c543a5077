"""The operations whose time is measured, on an application with one client and two queues."""

from __future__ import annotations

import argparse
import io
import itertools
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from opentelemetry.trace import INVALID_SPAN
from pyramid.config import Configurator

from pyramid_baseplate_redis import TimedOutError, ping_all
from pyramid_baseplate_redis.cli import check
from pyramid_baseplate_redis.cli.application import Application
from pyramid_baseplate_redis.cli.output import Output
from pyramid_baseplate_redis.exceptions import SERVER_ERRORS
from pyramid_baseplate_redis.server_context import ServerContext

from .limits import Limits

PIPELINE = 3  # commands of the pipeline
CHANNEL = "bounds"
_MOST_ATTEMPTS = 20
_numbers = itertools.count()


class App:
    """An application with the client ``foo``, a list queue and a durable queue.

    It is a context manager, which closes its connections.

    :param url: the client's.
    :param queues: the names of the list queue and the durable queue.
    :param settings: further settings of the client, without their prefix.
    """

    def __init__(
        self, url: str, limits: Limits, queues: tuple[str, str] = ("jobs", "letters"),
        **settings: str,
    ) -> None:  # fmt: skip
        list_queue, durable_queue = queues
        given = {
            "foo.url": url,
            **limits.settings(),
            **{f"foo.{key}": value for key, value in settings.items()},
            f"{list_queue}.queue": "foo",
            f"{durable_queue}.queue": "foo",
            f"{durable_queue}.durable": "true",
        }
        config = Configurator(settings=given)
        config.include("pyramid_baseplate_redis")
        config.commit()
        self.limits = limits
        self.registry = config.registry
        context = ServerContext(config.registry, INVALID_SPAN)
        self.foo: Any = context.foo
        self.list_queue: Any = getattr(context, list_queue)
        self.durable_queue: Any = getattr(context, durable_queue)
        #: A key in the slot of the list queue, which no other application changes.
        self.key = f"{{{list_queue}}}:key:{next(_numbers)}"
        self.pipeline_keys = [f"{self.key}:{number}" for number in range(PIPELINE)]
        self.payload = b"x"
        #: Whether commands, pipelines and transactions read instead of setting keys.
        self.only_reads = False
        self.subscriber: Any = None
        self._context = context

    def use(self, client: Any, key: str) -> None:
        """Set a key to the payload, or read it.

        :param client: the client or a pipeline.
        """
        if self.only_reads:
            client.get(key)
        else:
            client.set(key, self.payload)

    def subscribe(self) -> None:
        self.subscriber = self.foo.pubsub()
        self.subscriber.subscribe(CHANNEL)

    def predis_check(self) -> None:
        """Run ``predis check``, without loading an application.

        :raises CheckError: its exit status is not 0.
        """
        application = Application(self.registry, self._context)
        status = check.run(application, argparse.Namespace(all=False), Output(io.StringIO()))
        if status:
            raise CheckError(f"exit status {status}")

    def __enter__(self) -> App:
        return self

    def __exit__(self, *args: Any) -> None:
        # A server that does not answer need not be waited for.
        self.foo.connection_pool.disconnect()
        if self.subscriber is not None:
            self.subscriber.close()
        self._context.give_back()


class CheckError(Exception):
    """``predis check`` found a failure."""


def _connect(app: App) -> None:
    app.foo.ping()


def _command(app: App) -> None:
    app.use(app.foo, app.key)


def _within(app: App) -> None:
    with app.foo.within(app.limits.within) as foo:
        app.use(foo, app.key)


def _pipeline(app: App) -> None:
    with app.foo.pipeline("bounds", transaction=False) as pipeline:
        for key in app.pipeline_keys:
            app.use(pipeline, key)
        pipeline.execute()


def _transaction(app: App) -> None:
    def change(pipeline: Any) -> None:
        pipeline.exists(app.key)
        pipeline.multi()
        app.use(pipeline, app.key)

    app.foo.transaction(change, app.key)


def _subscribed(app: App) -> None:
    app.subscribe()
    while app.subscriber.get_message(timeout=5) is None:
        pass


def _get_message(app: App) -> None:
    if app.subscriber is None:
        app.subscribe()
    app.subscriber.get_message(timeout=app.limits.message)


def _put(app: App) -> None:
    app.list_queue.put(app.payload)


def _get(app: App) -> None:
    app.list_queue.get(timeout=app.limits.get)


def _put_durably(app: App) -> None:
    app.durable_queue.put(app.payload)


def _make_group(app: App) -> None:
    try:
        with app.durable_queue.receive(timeout=0):
            pass
    except TimedOutError:
        pass


def _receive(app: App) -> None:
    with app.durable_queue.receive(timeout=app.limits.receive):
        pass


def _probe(app: App) -> None:
    (health,) = ping_all(app.registry)
    if health.error is not None:
        raise health.error


@dataclass(frozen=True)
class Operation:
    """An operation of an application.

    :param name: its column.
    :param run: what is measured.
    :param setup: connects, and makes what the operation needs on the server.
    :param wait: the seconds for which it is meant to wait for messages.
    :param replies: the replies that it waits for, one after the other.
    :param sends: whether it sends the application's payload.
    :param writes: whether it always writes, also in an application that only reads.
    """

    name: str
    run: Callable[[App], None]
    setup: Callable[[App], None] = _connect
    wait: Callable[[Limits], float] = lambda limits: 0.0
    replies: int = 1
    sends: bool = True
    writes: bool = False

    def connect(self, app: App) -> None:
        """Connect before the fault, in as many attempts as a busy machine needs."""
        for _ in range(_MOST_ATTEMPTS):
            with suppress(*SERVER_ERRORS):
                return self.setup(app)
        return self.setup(app)


COMMAND = Operation("command", _command)
WITHIN = Operation("within()", _within)
PUB_SUB = Operation(
    "pub/sub", _get_message, _subscribed, wait=lambda limits: limits.message, sends=False
)
HEALTH = Operation("health probe", _probe, sends=False)
CHECK = Operation("predis check", App.predis_check, sends=False)
OPERATIONS = {
    operation.name: operation
    for operation in (
        COMMAND,
        WITHIN,
        Operation("pipeline", _pipeline, replies=PIPELINE),
        # WATCH, EXISTS, and the replies to MULTI, SET (or GET) and EXEC
        Operation("transaction()", _transaction, replies=5),
        PUB_SUB,
        Operation("queue put", _put, writes=True),
        Operation(
            "queue get", _get, wait=lambda limits: limits.get, sends=False, writes=True
        ),
        Operation("durable put", _put_durably, writes=True),
        # The reply to XREADGROUP that waits, and after it one more look: XPENDING, XREADGROUP, and
        # two commands that look for messages that have become due.
        Operation(
            "durable receive", _receive, _make_group, wait=lambda limits: limits.receive,
            replies=5, sends=False, writes=True,
        ),
        HEALTH,
        CHECK,
    )
}  # fmt: skip
