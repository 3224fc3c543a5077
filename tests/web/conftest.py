"""An application with one view."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from pyramid.config import Configurator
from pyramid.request import Request
from webtest import TestApp

from ..support.servers import Server
from ..support.totals import FAST

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


@pytest.fixture
def serve_fast(
    serve: Callable[..., TestApp], caplog: pytest.LogCaptureFixture
) -> Iterator[Callable[..., TestApp]]:
    """The same, with commands that are all faster than ``trace_min_duration``.

    The SDK may log nothing: it warns about an attribute that is set on an ended span.
    """

    def serve_fast(
        view: View, prepare: Callable[[Configurator], None] | None = None, **settings: Any
    ) -> TestApp:
        app = serve(view, prepare, foo__trace_min_duration=FAST, **settings)
        with app.app.request_context({}) as request:
            request.foo.ping()  # connects
        return app

    yield serve_fast
    records = caplog.get_records("call")
    assert [r.getMessage() for r in records if r.name.startswith("opentelemetry.sdk")] == []
