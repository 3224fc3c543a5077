"""The health view, which answers readiness probes with the results of all clients."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import redis
from pyramid.httpexceptions import HTTPMethodNotAllowed
from pyramid.response import Response
from pyramid.security import NO_PERMISSION_REQUIRED
from redis.exceptions import RedisClusterException

from ..interfaces import IPackageSettings, IRedisContextFactory
from ..settings.package import package_settings
from .probes import ClientHealth, ping_all

if TYPE_CHECKING:
    from pyramid.config import Configurator
    from pyramid.request import Request

logger = logging.getLogger(__package__)

HEALTH_CATEGORY = "redis health views"
_ALLOWED = "GET, HEAD"


def add_redis_health_view(config: Configurator, path: str = "/health/redis") -> None:
    """Add a view with the health of the Redis servers: 200, or 503 if a required one fails.

    The view needs no permission, whatever the default permission is. It shows addresses and errors
    only if ``baseplate_redis.health_details`` is true. The reason of a failure is logged.

    :param path: the route's pattern. Two views at the same path raise Pyramid's
        :class:`~pyramid.exceptions.ConfigurationConflictError` when the application is built.
    """
    route = f"redis health {config.route_prefix or ''} {path}"
    introspectable = config.introspectable(HEALTH_CATEGORY, route, path, "redis health view")
    introspectable.relate("routes", route)

    def register() -> None:
        details = package_settings(config.registry).health_details
        introspectable.update(path=path, route_name=route, health_details=details)

    config.add_route(route, path)
    # After the route, since the introspectable is related to the route's.
    config.action((HEALTH_CATEGORY, route), register, introspectables=(introspectable,))
    config.add_view(
        health_view, route_name=route, permission=NO_PERMISSION_REQUIRED, require_csrf=False
    )


def health_view(request: Request) -> Response:
    """Ask all servers and answer with JSON, which the documentation describes.

    :raises HTTPMethodNotAllowed: the method is neither GET nor HEAD.
    """
    if request.method not in ("GET", "HEAD"):
        raise HTTPMethodNotAllowed(headers=[("Allow", _ALLOWED)])
    details = request.registry.getUtility(IPackageSettings).health_details
    clients = ping_all(request.registry)
    for client in clients:
        if client.error is not None:
            logger.warning("the Redis client %s is failing: %s", client.name, _reason(client.error))
    ok = all(client.ok for client in clients if client.required)
    body = {
        "status": _status(ok),
        "clients": {client.name: _shown(request, client, details) for client in clients},
    }
    response = Response(json=body, status=200 if ok else 503)
    response.headers["Cache-Control"] = "no-store"
    return response


def _shown(request: Request, client: ClientHealth, details: bool) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "status": _status(client.ok),
        "required": client.required,
        "latency_ms": None if client.latency is None else round(client.latency * 1000, 3),
        "server_version": client.server_version,
    }
    if details:
        factory = request.registry.getUtility(IRedisContextFactory, client.name)
        settings = getattr(factory.connection_pool, "client_settings", None)
        shown["server"] = client.server
        shown["role"] = client.role
        shown["url"] = None if settings is None else settings.url  # has no password
        shown["error"] = None if client.error is None else _reason(client.error)
    return shown


def _status(ok: bool) -> str:
    return "ok" if ok else "failing"


def _reason(error: Exception) -> str:
    # Show only redis-py's texts: the error of a credential provider, for one, may hold a secret.
    is_safe = isinstance(error, (redis.RedisError, RedisClusterException))
    return f"{type(error).__name__}: {error}" if is_safe else type(error).__name__
