"""The directive ``add_redis_queues_view``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pyramid.csrf import LegacySessionCSRFStoragePolicy, SessionCSRFStoragePolicy
from pyramid.interfaces import (
    ICSRFStoragePolicy,
    IDefaultCSRFOptions,
    ISecurityPolicy,
    ISessionFactory,
)
from pyramid.security import NO_PERMISSION_REQUIRED

from ...exceptions import ConfigurationError
from . import views
from .links import PATTERNS, route_name

if TYPE_CHECKING:
    from pyramid.config import Configurator

QUEUES_PAGE_CATEGORY = "redis queues views"

_LAST = 10_000  # after every action of the application
_QUEUE_VIEWS = {  # route, method, method of QueueViews
    ("queue", "GET"): "show",
    ("message", "GET"): "show_message",
    ("letter", "GET"): "show_letter",
    ("move", "POST"): "move",
    ("move_all", "GET"): "confirm",
    ("move_all", "POST"): "move_all",
}


def add_redis_queues_view(config: Configurator, path: str = "/queues", *, permission: str) -> None:
    """Add pages that show the application's message queues, and replay or discard dead letters.

    The pages show the bodies of messages, so they need a permission. To show them to everyone,
    write ``permission=NO_PERMISSION_REQUIRED`` (from :mod:`pyramid.security`). The forms are
    protected by Pyramid's CSRF tokens.

    :param path: the route's pattern. Two queues pages at the same path raise Pyramid's
        :class:`~pyramid.exceptions.ConfigurationConflictError` when the application is built.
    :param permission: the permission that the application's security policy is asked for.
    :raises ConfigurationError: ``permission`` is empty or no text; when the application is built:
        there is a permission but no security policy, or CSRF tokens have no storage.
    """
    if not isinstance(permission, str) or not permission:
        raise ConfigurationError(
            f"add_redis_queues_view: permission is {permission!r}. Write the name of a permission, "
            "or pyramid.security.NO_PERMISSION_REQUIRED to show the queues to everyone."
        )
    pattern = path.rstrip("/")
    base = f"redis queues {config.route_prefix or ''} {pattern}"
    introspectable = config.introspectable(
        QUEUES_PAGE_CATEGORY, base, pattern or "/", "redis queues view"
    )
    introspectable.update(path=pattern or "/", route_name=base, permission=permission)

    def check() -> None:
        _check_security(config, permission)
        _check_csrf(config)

    for page, end in PATTERNS.items():
        name = route_name(base, page)
        config.add_route(name, pattern + end or "/")
        introspectable.relate("routes", name)
    # Last, since the policies may be set after this call.
    config.action(
        (QUEUES_PAGE_CATEGORY, base), check, introspectables=(introspectable,), order=_LAST
    )
    options: dict[str, Any] = {"permission": permission}
    for page, view in ("overview", views.overview), ("style", views.style):
        config.add_view(view, route_name=route_name(base, page), request_method="GET", **options)
    for (page, method), attribute in _QUEUE_VIEWS.items():
        config.add_view(
            views.QueueViews, attr=attribute, route_name=route_name(base, page),
            request_method=method, require_csrf=True, **options,
        )  # fmt: skip


def _check_security(config: Configurator, permission: str) -> None:
    """Refuse a permission that nothing checks: Pyramid ignores it without a security policy.

    :raises ConfigurationError: there is no security policy.
    """
    if permission == NO_PERMISSION_REQUIRED:
        return
    if config.registry.queryUtility(ISecurityPolicy) is None:
        raise ConfigurationError(
            f"add_redis_queues_view: there is no security policy that checks the permission "
            f"{permission!r}, so everyone could see the queues. Call config.set_security_policy()."
        )


def _check_csrf(config: Configurator) -> None:
    """Refuse a CSRF set-up with which no form can be sent.

    :raises ConfigurationError: the tokens need a session and there are no sessions, or tokens are
        accepted in a header only.
    """
    registry = config.registry
    policy = registry.queryUtility(ICSRFStoragePolicy)
    needs_session = isinstance(policy, (LegacySessionCSRFStoragePolicy, SessionCSRFStoragePolicy))
    if needs_session and registry.queryUtility(ISessionFactory) is None:
        raise ConfigurationError(
            "add_redis_queues_view: there is no storage for CSRF tokens. Call "
            "config.set_session_factory(), or "
            "config.set_csrf_storage_policy(pyramid.csrf.CookieCSRFStoragePolicy())."
        )
    options = registry.queryUtility(IDefaultCSRFOptions)
    if options is not None and not options.token:
        raise ConfigurationError(
            "add_redis_queues_view: set_default_csrf_options(token=None) accepts no CSRF tokens in "
            "forms. Write the name of a form field."
        )
