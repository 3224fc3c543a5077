"""A message board."""

from pyramid.config import Configurator


def main(global_config, **settings):
    with Configurator(settings=settings) as config:
        config.include("pyramid_jinja2")
        config.include("pyramid_baseplate_redis")
        config.include(".database")
        config.include(".sessions")
        config.include(".caching")
        config.add_redis_health_view("/health/redis")
        config.add_route("home", "/")
        config.add_route("like", "/messages/{id:[0-9]+}/like")
        config.scan()
    return config.make_wsgi_app()
