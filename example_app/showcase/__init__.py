"""Pages for a developer's machine: they show the app's traces, and break its Redis.

development.ini includes this package, production.ini does not::

    pyramid.includes = example_app.showcase
"""

from __future__ import annotations

from typing import Any

from pyramid.config import Configurator
from pyramid.events import BeforeRender
from pyramid.settings import aslist

from ..tracing import tracer_provider
from .faults import Faults
from .round_trips import round_trips_of
from .traces import TraceStore

# The traces of requests for these paths are kept only if they fail.
QUIET_PATHS = ("/static/", "/favicon.ico", "/queues/style", "/_debug_toolbar/", "/traces")


def includeme(config: Configurator) -> None:
    """Keep the latest traces, and add the pages that show them and that break Redis.

    Redis can be broken only if it is an embedded server with a directory.
    """
    settings = config.get_settings()
    store = config.registry.traces = TraceStore(QUIET_PATHS)
    tracer_provider().add_span_processor(store)
    config.include(".trace_views")
    config.include(".samples")
    url = settings.get("links.url", "")
    can_break = url.startswith("embedded:///")
    if can_break:
        config.registry.faults = Faults(url)
        config.include(".fault_views")
    has_toolbar = "pyramid_debugtoolbar" in aslist(settings.get("pyramid.includes", ""))
    showcase = {"can_break": can_break, "has_toolbar": has_toolbar}

    def add_showcase(event: BeforeRender) -> None:
        add_to_page(event, store, showcase)

    config.add_subscriber(add_showcase, BeforeRender)


def add_to_page(event: Any, store: TraceStore, showcase: dict[str, Any]) -> None:
    """Give the templates ``showcase`` and the ``round_trips`` of their request so far.

    The view has returned by now, and no template sends a command.
    """
    request = event["request"]
    if request is not None:
        event["showcase"] = showcase
        event["round_trips"] = round_trips_of(store, request.span)
