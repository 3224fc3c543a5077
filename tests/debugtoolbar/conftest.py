"""An application with the debug toolbar."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from pyramid.config import Configurator
from webtest import TestApp

from ..support.servers import Server
from ..support.toolbar import PANEL, Toolbar, View


@pytest.fixture
def serve(valkey: Server) -> Callable[..., Toolbar]:
    """An application with the toolbar, whose view is at ``/``."""

    def serve(
        view: View, prepare: Callable[[Configurator], None] | None = None, **settings: Any
    ) -> Toolbar:
        dotted = {key.replace("__", "."): value for key, value in settings.items()}
        known = {"foo.url": valkey.url, "debugtoolbar.includes": PANEL}
        # As with pyramid.includes in an .ini file: before all that the application does.
        config = Configurator(settings={**known, **dotted})
        config.include("pyramid_debugtoolbar")
        config.include("pyramid_baseplate_redis")
        config.add_route("home", "/")
        config.add_view(view, route_name="home")
        if prepare is not None:
            prepare(config)
        app = TestApp(config.make_wsgi_app(), extra_environ={"REMOTE_ADDR": "127.0.0.1"})
        return Toolbar(app)

    return serve
