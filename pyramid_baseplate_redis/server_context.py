"""What a request has, for code outside a request: scripts, workers and pshell."""

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
    """What a request has, for code outside a request: its clients, its queues and ``span``."""

    def __init__(self, registry: IComponents, span: Span) -> None:
        self.registry = registry
        self.span = span

    def __getattr__(self, name: str) -> Any:
        # Only for what isn't there yet: what is made is kept.
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
        """Give back the connections that the clients' pipelines and the like still have."""
        for made in tuple(vars(self).values()):
            if isinstance(made, MonitoredClient):
                made.give_back()


@contextmanager
def server_context(registry: IComponents, name: str) -> Iterator[ServerContext]:
    """Start a root span and yield an object with the clients and queues that a request has.

    :param registry: the application's, such as ``env["registry"]`` of
        :func:`pyramid.paster.bootstrap`.
    :param name: the span's name, such as ``nightly-cleanup``.

    For scripts, workers and ``pshell``. The span is current inside the block and its status is an
    error when an exception leaves it; the exception goes on.
    """
    with root_span(name) as span:
        context = ServerContext(registry, span)
        try:
            yield context
        finally:
            context.give_back()
