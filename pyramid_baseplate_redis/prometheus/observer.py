"""``baseplate_redis.prometheus``: the clients' metrics for Prometheus, with baseplate's names."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ..cluster.pool import ClusterConnectionPool
from ..exceptions import ConfigurationError
from ..settings.fields import PACKAGE_PREFIX
from ..settings.package import PackageSettings

if TYPE_CHECKING:
    from ..factories import ClusterRedisContextFactory, RedisContextFactory

logger = logging.getLogger(__package__)

SETTING = f"{PACKAGE_PREFIX}prometheus"
_DIRECTORY = "PROMETHEUS_MULTIPROC_DIR"


def observe_if_wanted(
    factory: RedisContextFactory | ClusterRedisContextFactory, app_config: Mapping[str, Any]
) -> None:
    """Measure what a client does, if the settings say so; see :func:`observe_client`."""
    if PackageSettings.from_config(app_config).prometheus:
        observe_client(factory)


def observe_client(factory: RedisContextFactory | ClusterRedisContextFactory) -> None:
    """Measure what a client does, in metrics of prometheus_client's default registry.

    Called for each client of an application whose settings say ``baseplate_redis.prometheus``. A
    script without one may call it for a factory that :meth:`~.factories.RedisClient.parse` made.

    :raises ConfigurationError: if prometheus_client isn't installed, if the metrics' names are
        taken, or if ``PROMETHEUS_MULTIPROC_DIR`` is no directory that can be written to.
    """
    _check_directory()
    try:
        from .instruments import PROCESS, PrometheusObserver
    except ModuleNotFoundError as error:
        if error.name != "prometheus_client":
            raise
        raise ConfigurationError(
            f"{SETTING}: needs prometheus-client: pip install 'pyramid_baseplate_redis[prometheus]'"
        ) from error
    except ValueError as error:
        raise ConfigurationError(f"{SETTING}: the metrics exist already: {error}") from error
    pool: Any = factory.connection_pool
    observers = getattr(pool, "observers", None)
    if observers is None:
        logger.warning(
            "%s: %s has a pool of another package and isn't measured", SETTING, factory.name
        )
        return
    if any(isinstance(observer, PrometheusObserver) for observer in observers):
        return
    settings = getattr(pool, "client_settings", None)
    observers.append(
        PrometheusObserver(
            database=str(pool.connection_kwargs.get("db") or 0),
            client_name=factory.redis_client_name or (settings and settings.client_name) or "",
            # Behind Sentinel there is one server at a time.
            redis_type="cluster" if isinstance(pool, ClusterConnectionPool) else "standalone",
        )
    )
    PROCESS.show_pool(pool, factory.name)


def _check_directory() -> None:
    directory = os.environ.get(_DIRECTORY)
    if directory is not None and not os.access(directory, os.W_OK | os.X_OK):
        raise ConfigurationError(
            f"{SETTING}: {_DIRECTORY} is {directory!r}, where no file can be written; make that "
            "directory before the application starts"
        )
