"""A message board."""

from pyramid.config import Configurator


def main(global_config, **settings):
    with Configurator(settings=settings) as config:
        config.include("pyramid_jinja2")
        config.include(".database")
        config.add_route("home", "/")
        config.scan()
    return config.make_wsgi_app()
