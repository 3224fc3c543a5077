"""An application with a queues page, and dead letters for it to show."""

from __future__ import annotations

from typing import Any

from pyramid.config import Configurator
from pyramid.csrf import CookieCSRFStoragePolicy
from pyramid.security import NO_PERMISSION_REQUIRED
from webtest import TestApp

from pyramid_baseplate_redis import DurableMessageQueue


class HandlerError(Exception):
    """The error of the handlers of these tests."""


def add_page(config: Configurator, path: str = "/queues", **options: Any) -> Configurator:
    """Add a queues page that everyone may see, with CSRF tokens in a cookie."""
    config.set_csrf_storage_policy(CookieCSRFStoragePolicy())
    config.add_redis_queues_view(path, **{"permission": NO_PERMISSION_REQUIRED, **options})
    return config


def page_app(config: Configurator, **options: Any) -> TestApp:
    """Make the application, with a queues page."""
    return TestApp(add_page(config, **options).make_wsgi_app())


def bury(
    queue: DurableMessageQueue, *bodies: bytes | str, error: str = "the <b>handler</b> failed"
) -> None:
    """Put messages that become dead letters.

    :param queue: a queue with ``max_attempts=1``.
    :param error: the text of the handler's error.
    """
    for body in bodies:
        queue.put(body)
        try:
            with queue.receive(5):
                raise HandlerError(error)
        except HandlerError:
            pass
