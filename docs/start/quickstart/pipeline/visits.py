from wsgiref.simple_server import make_server

from pyramid.config import Configurator


def home(request):
    with request.store.pipeline("visit") as pipeline:
        pipeline.incr("visits").expire("visits", 3600)
        visits, _ = pipeline.execute()
    return {"visits": visits}


def main(global_config, **settings):
    with Configurator(settings=settings) as config:
        config.include("pyramid_baseplate_redis")
        config.add_route("home", "/")
        config.add_view(home, route_name="home", renderer="json")
    return config.make_wsgi_app()


SETTINGS = {
    "store.url": "embedded://",
    "baseplate_redis.print_spans": "true",
}

if __name__ == "__main__":
    make_server("localhost", 8080, main({}, **SETTINGS)).serve_forever()
