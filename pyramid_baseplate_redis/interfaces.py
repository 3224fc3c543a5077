"""The interfaces under which this package registers its utilities in a Pyramid registry."""

# ruff: noqa: N805 (an interface's methods have no self)
from __future__ import annotations

from typing import Any

from zope.interface import Attribute, Interface


class IRedisContextFactory(Interface):
    """Makes a client for each request; registered under the client's name."""

    connection_pool = Attribute("the client's connection pool, one per process")

    def make_object_for_context(name: Any, span: Any) -> Any:
        """Return the client ``name`` whose commands belong to ``span``."""


class IPackageSettings(Interface):
    """The ``baseplate_redis.*`` settings of the application; see :class:`.PackageSettings`."""


class IRedisProbes(Interface):
    """Keeps the health probes that are running."""

    def start(name: str, factory: Any) -> Any:
        """Start a probe of the server of the client ``name``, or join the running one."""


class IMessageQueueFactory(Interface):
    """Makes a message queue for each request; registered under the queue's name."""

    client = Attribute("the name of the client that the queue uses")
    settings = Attribute("the queue's settings")
    length = Attribute("reads the queue's length for the metric; None if that is off")

    def observe_length(client_factory: Any) -> None:
        """Collect the queue's length as a metric, with a client like the factory's."""

    def __call__(redis_client: Any) -> Any:
        """Return the queue, which uses ``redis_client``."""


class IRedisClient(Interface):
    """Configures a client; registered under the client's name."""

    redis_client_name = Attribute("the pool's name on the spans")
    kwargs = Attribute("keyword arguments for the pool")


class IClientSwap(Interface):
    """Makes stand-ins for the clients of an application that is being tested."""

    def parse(client: Any, key_path: Any, raw_config: Any) -> Any:
        """Return the stand-in's factory for ``key_path``; see :meth:`.RedisClient.parse`."""
