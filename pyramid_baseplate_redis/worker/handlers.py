"""Checks a handler when the worker starts, and calls it with a context."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from opentelemetry import trace

from ..exceptions import ConfigurationError
from ..queues.messages import DurableMessage
from ..server_context import ServerContext

if TYPE_CHECKING:
    from zope.interface.interfaces import IComponents

#: ``handle(request, message)``, or ``handle(context, message)`` with ``with_context``.
Handler = Callable[[Any, DurableMessage], object]


def check_handler(queue: str, handler: Handler, *, with_context: bool) -> None:
    """Check that a handler can process messages.

    :param queue: the queue's name, for the error.
    :raises ConfigurationError: it can't be called with two arguments, or calling it would process
        nothing.
    """
    name = getattr(handler, "__name__", None) or type(handler).__name__
    prefix = f"{queue}: the handler {name}"
    if inspect.isclass(handler):
        raise ConfigurationError(f"{prefix} is a class. Write a function.")
    if not callable(handler):
        raise ConfigurationError(f"{prefix} can't be called. Write a function.")
    called = handler
    while isinstance(called, functools.partial):
        called = called.func
    if not (inspect.isfunction(called) or inspect.ismethod(called)):
        called = getattr(called, "__call__", called)  # noqa: B004 (the method is inspected)
    if inspect.iscoroutinefunction(called):
        raise ConfigurationError(
            f"{prefix} is a coroutine function, which the worker does not await: its messages "
            "would be acknowledged unprocessed. Write a plain function."
        )
    if inspect.isgeneratorfunction(called) or inspect.isasyncgenfunction(called):
        raise ConfigurationError(
            f"{prefix} is a generator function, which the worker does not iterate: its messages "
            "would be acknowledged unprocessed. Write a function without yield."
        )
    try:
        signature = inspect.signature(handler)
    except (TypeError, ValueError):  # some functions written in C have none
        return
    first = "context" if with_context else "request"
    try:
        signature.bind(object(), object())
    except TypeError:
        raise ConfigurationError(
            f"{prefix} can't be called with two arguments; it takes {signature}. Write "
            f"def {getattr(handler, '__name__', 'handle')}({first}, message)."
        ) from None
    parameters = list(signature.parameters)
    if not with_context and parameters[:1] == ["context"]:
        raise ConfigurationError(
            f"{prefix} names its first parameter context, but it gets a request. Name it request, "
            "or choose a context: with_context=True, predis work --with-context."
        )


class ContextHandler:
    """Calls ``handle(context, message)`` with a :class:`.ServerContext`."""

    def __init__(self, registry: IComponents, handler: Handler) -> None:
        self._registry = registry
        self._handler = handler

    def __call__(self, message: DurableMessage, renew: Callable[[], None]) -> None:
        """Call the handler.

        :param renew: not used; see :class:`.RequestHandler`.
        """
        context = ServerContext(self._registry, trace.get_current_span())
        try:
            check_result(self._handler(context, message))
        finally:
            context.give_back()


def check_result(result: object) -> None:
    """Check what a handler returned.

    :raises TypeError: it would have to be awaited, so nothing was processed.
    """
    if inspect.isawaitable(result):
        if inspect.iscoroutine(result):
            result.close()
        raise TypeError("the handler returned an awaitable, which the worker does not await")
