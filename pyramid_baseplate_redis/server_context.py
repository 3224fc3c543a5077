"""Clients, queues and a root span for code outside a request: scripts, workers and pshell."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from opentelemetry.trace import Span

from .client.base import MonitoredClient
from .interfaces import IMessageQueueFactory, IRedisContextFactory
from .telemetry.server_spans import root_span

if TYPE_CHECKING:
    from zope.interface.interfaces import IComponents


class ServerContext:
    """The clients, the queues and the ``span`` of code outside a request.

    Each client and queue is an attribute, as on a request, and is made when it is first used.
    """

    def __init__(self, registry: IComponents, span: Span) -> None:
        self.registry = registry
        self.span = span

    def __getattr__(self, name: str) -> Any:
        # Python calls this only for missing attributes: each client or queue is made once.
        if name.startswith("__"):
            raise AttributeError(name)
        factory = self.registry.queryUtility(IRedisContextFactory, name)
        if factory is not None:
            made: Any = factory.make_object_for_context(name, self.span)
        else:
            queue = self.registry.queryUtility(IMessageQueueFactory, name)
            if queue is None:
                raise AttributeError(f"no Redis client and no message queue is named {name!r}")
            made = queue(getattr(self, queue.client))
        setattr(self, name, made)
        return made

    def give_back(self) -> None:
        """Return connections that pipelines, subscribers and monitors of the clients still hold."""
        for made in tuple(vars(self).values()):
            if isinstance(made, MonitoredClient):
                made.give_back()


@contextmanager
def server_context(registry: IComponents, name: str) -> Iterator[ServerContext]:
    """Start a root span and yield an object with the clients and queues that a request has.

    For scripts, workers and ``pshell``. The span is current inside the block. If an exception
    leaves the block, the span's status is an error and the exception propagates.

    :param registry: the application's registry, such as ``env["registry"]`` of
        :func:`pyramid.paster.bootstrap`.
    :param name: the span's name, such as ``nightly-cleanup``.
    """
    with root_span(name) as span:
        context = ServerContext(registry, span)
        try:
            yield context
        finally:
            context.give_back()
