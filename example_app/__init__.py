"""A small link shortener: an example of a Pyramid app whose Redis is monitored."""

from __future__ import annotations

from typing import Any

from pyramid.config import Configurator
from pyramid.csrf import CookieCSRFStoragePolicy

from pyramid_baseplate_redis import RedisClient


def main(global_config: dict[str, str], **settings: Any) -> Any:
    """Create the WSGI application from the settings of an .ini file."""
    with Configurator(settings=settings) as config:
        config.include("pyramid_jinja2")
        config.include("pyramid_baseplate_redis")
        config.include(".tracing")
        config.include(".metrics")
        config.include(".routes")
        # request.links, configured by links.*. The settings alone would declare it; this line is
        # here because its values are text, even if another program has written other bytes.
        config.add_redis_client(
            "links", RedisClient(decode_responses=True, encoding_errors="replace")
        )
        config.add_message_queue("clicks", client="links", durable=True)
        config.set_csrf_storage_policy(CookieCSRFStoragePolicy(httponly=True))
        config.set_default_csrf_options(require_csrf=True)
        config.scan(".views")
    return config.make_wsgi_app()
