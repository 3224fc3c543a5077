"""Handlers that would process nothing are refused when the worker starts."""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
import redis

from pyramid_baseplate_redis import ConfigurationError, DurableMessageQueue
from pyramid_baseplate_redis.worker import work
from pyramid_baseplate_redis.worker.handlers import check_handler

from ..support.servers import Server, wait_until
from ..support.workers_in_threads import Working


async def coroutine(request: Any, message: Any) -> None: ...


async def asynchronous_generator(request: Any, message: Any) -> AsyncIterator[None]:
    yield


def generator(request: Any, message: Any) -> Iterator[None]:
    yield


def one_argument(message: Any) -> None: ...


def three_arguments(request: Any, message: Any, more: Any) -> None: ...


def old(context: Any, message: Any) -> None: ...


def good(request: Any, message: Any) -> None: ...


class AsynchronousObject:
    async def __call__(self, request: Any, message: Any) -> None: ...


class View:
    def __init__(self, request: Any, message: Any) -> None: ...


@pytest.mark.parametrize(
    ("handler", "problem"),
    [
        (coroutine, "the handler coroutine is a coroutine function, which the worker does not"),
        (functools.partial(coroutine), "is a coroutine function"),
        (AsynchronousObject(), "the handler AsynchronousObject is a coroutine function"),
        (asynchronous_generator, "is a generator function"),
        (generator, "the handler generator is a generator function"),
        (one_argument, r"can't be called with two arguments; it takes \(message: 'Any'\)"),
        (three_arguments, "can't be called with two arguments"),
        (View, "the handler View is a class"),
        ("text", "the handler str can't be called"),
        (old, "names its first parameter context, but it gets a request"),
    ],
    ids=[
        "coroutine", "partial", "object", "asynchronous generator", "generator", "one", "three",
        "class", "text", "context",
    ],
)  # fmt: skip
def test_a_handler_that_can_not_work_is_refused(handler: Any, problem: str) -> None:
    with pytest.raises(ConfigurationError, match=f"^jobs: .*{problem}"):
        check_handler("jobs", handler, with_context=False)


@pytest.mark.parametrize("handler", [good, functools.partial(three_arguments, more=1), print])
def test_other_handlers_are_not(handler: Any) -> None:
    check_handler("jobs", handler, with_context=False)


def test_a_parameter_named_context_is_fine_if_it_gets_one() -> None:
    check_handler("jobs", old, with_context=True)


def test_it_is_refused_before_a_message_is_received(
    make_registry: Callable[..., Any], valkey: Server, queue: DurableMessageQueue
) -> None:
    queue.put("job")
    with pytest.raises(ConfigurationError, match="the handler coroutine"):
        work(make_registry(valkey), "jobs", coroutine)
    assert queue.get(0) == b"job"


def test_a_message_whose_handler_returns_a_coroutine_has_failed(
    make_registry: Callable[..., Any], valkey: Server, queue: DurableMessageQueue
) -> None:
    queue.put("job")
    working = Working(make_registry(valkey, jobs__max_attempts="1"), lambda *both: coroutine(*both))
    wait_until(lambda: queue.stats().dead)
    working.end()
    (letter,) = queue.dead_letters()
    assert letter.error == "TypeError"


def test_with_context_a_handler_gets_a_context(
    make_registry: Callable[..., Any], valkey: Server, queue: DurableMessageQueue, raw: redis.Redis
) -> None:
    def handle(context: Any, message: Any) -> None:
        context.foo.set("seen", message.body)

    queue.put("job")
    working = Working(make_registry(valkey), handle, with_context=True)
    wait_until(lambda: raw.exists("seen"))
    working.end()
    assert raw.get("seen") == b"job"
