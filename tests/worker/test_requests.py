"""The request that a handler gets, and its transaction."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import pytest
import redis
from pyramid.config import Configurator
from pyramid.threadlocal import get_current_request, manager

from pyramid_baseplate_redis import DurableMessageQueue

from ..support.servers import Server, wait_until
from ..support.workers_in_threads import Working

MakeConfig = Callable[..., Configurator]


class Recorder:
    """A data manager that records what becomes of the transactions that it joins."""

    def __init__(self, queue: DurableMessageQueue) -> None:
        self.events: list[str] = []
        self._queue = queue

    def join(self, request: Any) -> None:
        request.tm.get().join(self)

    def abort(self, transaction: Any) -> None:
        self.events.append("abort")

    def tpc_begin(self, transaction: Any) -> None: ...

    def commit(self, transaction: Any) -> None: ...

    def tpc_vote(self, transaction: Any) -> None: ...

    def tpc_finish(self, transaction: Any) -> None:
        length = self._queue.stats().length
        self.events.append(f"commit with {length} in the queue")

    tpc_abort = abort

    def sortKey(self) -> str:  # noqa: N802 (the interface's name)
        return "recorder"


@pytest.fixture
def recorder(queue: DurableMessageQueue) -> Recorder:
    return Recorder(queue)


@pytest.fixture
def registry(make_config: MakeConfig, valkey: Server) -> Any:
    """The registry of an application with pyramid_tm."""
    config = make_config(
        foo__url=valkey.url, jobs__queue="foo", jobs__durable="true", jobs__max_attempts="1",
        jobs__base_url="https://example.com/shop",
    )  # fmt: skip
    config.include("pyramid_tm")
    config.add_request_method(lambda request: "a method", "hello", reify=True)
    config.add_route("home", "/home")
    config.make_wsgi_app()
    return config.registry


def processed(registry: Any, queue: DurableMessageQueue, handle: Callable[..., Any]) -> None:
    """Put a message and let a worker process it."""
    queue.put("job")
    working = Working(registry, handle)
    wait_until(lambda: queue.stats().length == 0)
    working.end()


def test_the_request_is_that_of_a_view(registry: Any, queue: DurableMessageQueue) -> None:
    seen: list[Any] = []

    def handle(request: Any, message: Any) -> None:
        request.foo.set("key", "value")
        request.jobs.stats()
        seen.extend([request.hello, request.route_url("home"), request.context is not None])
        seen.append(get_current_request() is request)

    processed(registry, queue, handle)
    assert seen == ["a method", "https://example.com/shop/home", True, True]


def test_the_transaction_is_committed_before_the_message_is_acknowledged(
    registry: Any, queue: DurableMessageQueue, recorder: Recorder
) -> None:
    def handle(request: Any, message: Any) -> None:
        assert request.environ["tm.active"]
        recorder.join(request)

    processed(registry, queue, handle)
    assert recorder.events == ["commit with 1 in the queue"]
    assert queue.stats().dead == 0


def test_an_exception_aborts_the_transaction(
    registry: Any, queue: DurableMessageQueue, recorder: Recorder
) -> None:
    def handle(request: Any, message: Any) -> None:
        recorder.join(request)
        raise ZeroDivisionError

    processed(registry, queue, handle)
    assert recorder.events == ["abort"]
    assert queue.stats().dead == 1


def test_a_doomed_transaction_is_a_failure(
    registry: Any, queue: DurableMessageQueue, recorder: Recorder
) -> None:
    def handle(request: Any, message: Any) -> None:
        recorder.join(request)
        request.tm.doom()

    processed(registry, queue, handle)
    assert recorder.events == ["abort"]
    (letter,) = queue.dead_letters()
    assert letter.error.endswith("MessageQueueError")


def test_a_message_put_after_the_commit_is_not_put_if_the_handler_fails(
    registry: Any, queue: DurableMessageQueue, raw: redis.Redis
) -> None:
    def handle(request: Any, message: Any) -> None:
        if message.body == b"follow-up":
            raw.set("followed", "up")
            return
        request.jobs.put("follow-up", after_commit=True)
        if message.body == b"bad":
            raise ZeroDivisionError

    queue.put("bad")
    working = Working(registry, handle)
    wait_until(lambda: queue.stats().dead)
    assert not raw.exists("followed")
    assert queue.stats().length == 0
    queue.put("good")
    wait_until(lambda: raw.exists("followed"))
    working.end()


def test_a_lost_lease_aborts_the_transaction(
    registry: Any, queue: DurableMessageQueue, recorder: Recorder, raw: redis.Redis
) -> None:
    def handle(request: Any, message: Any) -> None:
        recorder.join(request)
        message.leased_at -= 20  # more than half of the lease
        raw.xclaim(queue.key, "workers", "another", 0, [message.id])

    queue.put("job")
    working = Working(registry, handle)
    wait_until(lambda: recorder.events)
    working.end()
    assert recorder.events == ["abort"]
    assert raw.xpending(queue.key, "workers")["consumers"][0]["name"] == b"another"


def test_an_error_of_a_finished_callback_is_logged_and_the_message_acknowledged(
    registry: Any, queue: DurableMessageQueue, recorder: Recorder,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    called: list[str] = []

    def broken(request: Any) -> None:
        raise KeyError("the callback's own")

    def handle(request: Any, message: Any) -> None:
        recorder.join(request)
        request.add_finished_callback(broken)
        request.add_finished_callback(lambda request: called.append("the next one"))

    processed(registry, queue, handle)
    assert recorder.events == ["commit with 1 in the queue"]
    assert (queue.stats().dead, called) == (0, ["the next one"])
    assert "a finished callback of a message's request failed" in caplog.text


@pytest.mark.parametrize("broken", ["root factory", "handler"])
def test_thread_locals_are_restored_whatever_raises(
    make_config: MakeConfig, valkey: Server, queue: DurableMessageQueue, broken: str
) -> None:
    depths: list[int] = []

    def root_factory(request: Any) -> Any:
        depths.append(len(manager.stack))
        if broken == "root factory":
            raise ZeroDivisionError

    def handle(request: Any, message: Any) -> None:
        raise ZeroDivisionError

    config = make_config(
        foo__url=valkey.url, jobs__queue="foo", jobs__durable="true", jobs__max_attempts="1"
    )
    config.set_root_factory(root_factory)
    config.make_wsgi_app()
    queue.put_many(["a", "b", "c"])
    working = Working(config.registry, handle)
    wait_until(lambda: queue.stats().dead == 3)
    working.end()
    assert depths == [1, 1, 1]


def test_the_manager_of_tm_manager_hook_is_used(
    make_config: MakeConfig, valkey: Server, queue: DurableMessageQueue, recorder: Recorder
) -> None:
    import transaction

    managers: list[Any] = []

    def hook(request: Any) -> Any:
        managers.append(transaction.TransactionManager(explicit=True))
        return managers[-1]

    config = make_config(foo__url=valkey.url, jobs__queue="foo", jobs__durable="true")
    config.registry.settings["tm.manager_hook"] = hook
    config.include("pyramid_tm")
    config.make_wsgi_app()
    used: list[Any] = []
    processed(config.registry, queue, lambda request, message: used.append(request.tm))
    assert used == managers


def test_without_pyramid_tm_there_is_no_transaction(
    make_registry: Callable[..., Any], valkey: Server, queue: DurableMessageQueue
) -> None:
    seen: list[Any] = []
    processed(
        make_registry(valkey), queue,
        lambda request, message: seen.append((hasattr(request, "tm"), [*request.environ])),
    )  # fmt: skip
    ((has_manager, environ),) = seen
    assert not has_manager
    assert "tm.active" not in environ


def test_the_handlers_error_is_in_the_log_with_its_traceback(
    registry: Any, queue: DurableMessageQueue, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)

    def handle(request: Any, message: Any) -> None:
        raise ZeroDivisionError("the handler's own")

    processed(registry, queue, handle)
    assert "ZeroDivisionError: the handler's own" in caplog.text
