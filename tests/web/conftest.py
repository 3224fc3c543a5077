"""An application with one view."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from pyramid.config import Configurator
from pyramid.request import Request
from webtest import TestApp

from ..support.servers import Server

MakeConfig = Callable[..., Configurator]
View = Callable[[Request], Any]


@pytest.fixture
def serve(make_config: MakeConfig, valkey: Server) -> Callable[..., TestApp]:
    """An application whose only view is at ``/path/{name}``."""

    def serve(
        view: View, prepare: Callable[[Configurator], None] | None = None, **settings: Any
    ) -> TestApp:
        config = make_config(foo__url=valkey.url, **settings)
        config.add_route("path", "/path/{name}")
        config.add_view(view, route_name="path")
        if prepare is not None:
            prepare(config)
        return TestApp(config.make_wsgi_app())

    return serve
