"""Measuring of clients for Prometheus, which ``baseplate_redis.prometheus = true`` switches on.

It imports :mod:`.instruments` when the first client is measured: that needs prometheus_client.
"""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING, Any

from ..cluster.pool import ClusterConnectionPool
from ..exceptions import ConfigurationError
from ..settings.fields import PACKAGE_PREFIX

if TYPE_CHECKING:
    from ..factories import ClusterRedisContextFactory, RedisContextFactory

logger = logging.getLogger(__package__)

SETTING = f"{PACKAGE_PREFIX}prometheus"
_DIRECTORY = "PROMETHEUS_MULTIPROC_DIR"


def observe_client(factory: RedisContextFactory | ClusterRedisContextFactory) -> None:
    """Measure a client with metrics in prometheus_client's default registry.

    The clients of an application are measured if ``baseplate_redis.prometheus`` is true. A script
    without an application calls this. Further calls for the same client change nothing. A client
    with a pool of another package isn't measured; this is logged.

    :param factory: the result of :meth:`~.factories.RedisClient.parse`.
    :raises ConfigurationError: prometheus_client isn't installed, another library has registered
        metrics of the same names, or ``PROMETHEUS_MULTIPROC_DIR`` is not a writable directory.
    """
    _check_directory()
    try:
        from .instruments import PROCESS, PrometheusObserver
    except ModuleNotFoundError as error:
        if error.name != "prometheus_client":
            raise
        raise ConfigurationError(
            f"{SETTING}: prometheus-client is not installed. Run "
            "pip install 'pyramid_baseplate_redis[prometheus]'."
        ) from error
    except ValueError as error:
        raise ConfigurationError(
            f"{SETTING}: something else has registered metrics of the same names: {error}"
        ) from error
    pool: Any = factory.connection_pool
    observers = getattr(pool, "observers", None)
    if observers is None:
        logger.warning(
            "%s: %s isn't measured, its pool is from another package", SETTING, factory.name
        )
        return
    if any(isinstance(observer, PrometheusObserver) for observer in observers):
        return
    settings = getattr(pool, "client_settings", None)
    observers.append(
        PrometheusObserver(
            database=str(pool.connection_kwargs.get("db") or 0),
            client_name=factory.redis_client_name or (settings and settings.client_name) or "",
            # With Sentinel there is one server at a time, hence "standalone".
            redis_type="cluster" if isinstance(pool, ClusterConnectionPool) else "standalone",
        )
    )
    PROCESS.show_pool(pool, factory.name)


def _check_directory() -> None:
    directory = os.environ.get(_DIRECTORY)
    if directory is not None and not os.access(directory, os.W_OK | os.X_OK):
        raise ConfigurationError(
            f"{SETTING}: {_DIRECTORY} is {directory!r}, which is not a writable directory. Create "
            "it before the application starts."
        )
