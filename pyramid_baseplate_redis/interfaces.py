"""The interfaces under which a Pyramid registry keeps this package's utilities."""

# ruff: noqa: N805 (an interface's methods have no self)
from __future__ import annotations

from typing import Any

from zope.interface import Attribute, Interface


class IRedisContextFactory(Interface):
    """Makes the Redis client of a request; registered by the client's name."""

    connection_pool = Attribute("the client's connection pool, one per process")

    def make_object_for_context(name: Any, span: Any) -> Any:
        """Return the client ``name`` whose commands belong to ``span``."""


class IRedisProbes(Interface):
    """Keeps the health probes that are under way."""

    def start(name: str, factory: Any) -> Any:
        """Begin to ask the server of the client ``name``, or join whoever does."""


class IMessageQueueFactory(Interface):
    """Makes the message queue of a request; registered by the queue's name."""

    client = Attribute("the name of the client that the queue uses")
    settings = Attribute("the queue's settings")
    length = Attribute("tells how long it is, for the metric; None where nobody may ask")

    def observe_length(client_factory: Any) -> None:
        """Have its length collected as a metric, by a client like those of the factory."""

    def __call__(redis_client: Any) -> Any:
        """Return the queue on a client."""


class IRedisClient(Interface):
    """How a client is configured; registered by the client's name."""

    redis_client_name = Attribute("its name on the spans")
    kwargs = Attribute("keyword arguments of its pool")


class IClientSwap(Interface):
    """Makes the clients of an application that is being tested, in place of its own."""

    def parse(client: Any, key_path: Any, raw_config: Any) -> Any:
        """Return the factory of the client ``key_path``; as :meth:`.RedisClient.parse`."""
