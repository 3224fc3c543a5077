"""The application of the pages about deploying: a page that counts its visits, and a queue."""

from pyramid.config import Configurator
from pyramid.settings import asbool

from .telemetry import set_up_tracing


def main(global_config, **settings):
    """Create the WSGI application from the settings of the .ini file."""
    if asbool(settings["myapp.set_up_tracing"]):
        set_up_tracing()
    with Configurator(settings=settings) as config:
        config.include("pyramid_baseplate_redis")
        config.add_redis_health_view("/health/redis")
        config.add_route("live", "/health/live")
        config.add_route("home", "/")
        config.add_route("invoice", "/invoice")
        config.scan(".views")
        return config.make_wsgi_app()
