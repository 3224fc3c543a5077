"""The recipe for Server-Sent Events as a WSGI application, for gunicorn."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from pyramid.config import Configurator

sys.path.insert(0, str(Path(__file__).parents[3] / "docs/recipes/code"))


def application() -> Any:
    import server_sent_events

    server_sent_events.HEARTBEAT = 0.2
    settings = {"events.url": os.environ["REDIS_URL"], "events.trace_exclude": "XREAD"}
    config = Configurator(settings=settings)
    config.include("pyramid_baseplate_redis")
    config.include(server_sent_events)
    return config.make_wsgi_app()
