"""Small applications for ``predis``, which .ini files of the tests name."""

from __future__ import annotations

from typing import Any

from pyramid.config import Configurator

from pyramid_baseplate_redis import RedisClient


def main(global_config: dict[str, str], **settings: Any) -> Any:
    """Clients as the settings say, and a queue if there is a client ``foo``."""
    with Configurator(settings=settings) as config:
        config.include("pyramid_baseplate_redis")
        if any(key.startswith("foo.") for key in settings):
            config.add_message_queue("jobs", client="foo")
    return config.make_wsgi_app()


def in_code(global_config: dict[str, str], **settings: Any) -> Any:
    """A client with keyword arguments, one of which is a password and one no setting."""
    with Configurator(settings=settings) as config:
        config.include("pyramid_baseplate_redis")
        password = settings.get("password_in_code")
        client = RedisClient(socket_timeout=3, password=password, socket_keepalive_options={})
        config.add_redis_client("foo", client)
    return config.make_wsgi_app()


def printing(global_config: dict[str, str], **settings: Any) -> Any:
    """An application that prints while it is made."""
    print("hello from the application")  # noqa: T201
    return main(global_config, **settings)


def without(global_config: dict[str, str], **settings: Any) -> Any:
    """An application that doesn't include the package."""
    return Configurator(settings=settings).make_wsgi_app()


def failing(global_config: dict[str, str], **settings: Any) -> Any:
    """An application with a fault of its own."""
    raise ZeroDivisionError("the application's own")
