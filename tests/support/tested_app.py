"""An application under test, and what its servers store."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from typing import Any

from pyramid.config import Configurator

from pyramid_baseplate_redis.testing import for_tests
from pyramid_baseplate_redis.testing.application import plain_client

from .servers import free_port

NOBODY = f"redis://127.0.0.1:{free_port()}"  # where no server is


def count(request: Any) -> dict[str, int]:
    return {"count": request.foo.incr("count")}


def make_app(
    settings: dict[str, Any],
    declare: Callable[[Configurator], object] | None = None,
    includes: tuple[str, ...] = ("pyramid_baseplate_redis",),
) -> Any:
    """What an application's ``main()`` does."""
    with Configurator(settings=settings) as config:
        for each in includes:
            config.include(each)
        if declare is not None:
            declare(config)
        config.add_message_queue("jobs", client="foo")
        config.add_route("count", "/count")
        config.add_view(count, route_name="count", renderer="json")
    return config.make_wsgi_app()


def app_of(declare: Callable[[Configurator], object] | None = None, **settings: Any) -> Any:
    """An application under test; settings are written with __ for a dot."""
    dotted = {key.replace("__", "."): value for key, value in settings.items()}
    return make_app(for_tests({"foo.url": NOBODY, **dotted}), declare)


def keys_of(app: Any, name: str) -> list[str]:
    return sorted(plain_client(app, name, decode_responses=True).keys())


def run_python(code: str) -> None:
    """Run a script in a process of its own, where nothing is set up."""
    lines = [line[12:] if line.startswith(" " * 12) else line for line in code.split("\n")]
    subprocess.run([sys.executable, "-c", "\n".join(lines)], check=True, timeout=120)
