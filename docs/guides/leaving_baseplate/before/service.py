"""Posts and votes, on baseplate.py 2.7."""

from baseplate import Baseplate
from baseplate.clients.redis import MessageQueue, RedisClient, pool_from_config
from baseplate.frameworks.pyramid import BaseplateConfigurator, get_is_healthy_probe
from baseplate.lib import config as baseplate_config
from baseplate.thrift.ttypes import IsHealthyProbe
from pyramid.config import Configurator
from pyramid.httpexceptions import HTTPBadRequest, HTTPNotFound


def health(request):
    if get_is_healthy_probe(request) != IsHealthyProbe.LIVENESS:
        request.redis.ping()
    return {"status": "healthy"}


def create_post(request):
    title = request.json_body.get("title")
    if not title:
        raise HTTPBadRequest("title is missing")
    number = request.redis.incr("posts")
    with request.redis.pipeline("create_post") as pipeline:
        pipeline.hset(f"post:{number}", "title", title)
        pipeline.expire(f"post:{number}", request.votes.keep)
        pipeline.zadd("top", {number: 0})
        pipeline.execute()
    request.metrics.counter("posts.created").increment()
    request.response.status = 201
    return {"id": number, "title": title, "score": 0}


def show_post(request):
    number, title = find_post(request)
    return {"id": number, "title": title, "score": score(request, number)}


def vote(request):
    number, title = find_post(request)
    user = request.json_body.get("user")
    direction = {"up": 1, "down": -1}.get(request.json_body.get("direction"))
    if not user or direction is None:
        raise HTTPBadRequest("user or direction is missing")
    with request.redis.pipeline("vote") as pipeline:
        pipeline.hset(f"votes:{number}", user, direction)
        pipeline.expire(f"votes:{number}", request.votes.keep)
        is_new, _ = pipeline.execute()
    if is_new:
        request.metrics.counter("votes.cast").increment()
    request.rankings.put(str(number).encode())
    return {"id": number, "title": title, "score": score(request, number)}


def top(request):
    numbers = request.redis.zrevrange("top", 0, request.votes.top_size - 1)
    if not numbers:
        return {"posts": []}
    with request.redis.pipeline("titles") as pipeline:
        for number in numbers:
            pipeline.hget(f"post:{int(number)}", "title")
        titles = pipeline.execute()
    return {
        "posts": [
            {"id": int(number), "title": title.decode()}
            for number, title in zip(numbers, titles, strict=True)
            if title is not None
        ]
    }


def find_post(request):
    number = int(request.matchdict["id"])
    title = request.redis.hget(f"post:{number}", "title")
    if title is None:
        raise HTTPNotFound()
    return number, title.decode()


def score(request, number):
    with request.span.make_child("score", local=True, component_name="votes"):
        return sum(int(value) for value in request.redis.hvals(f"votes:{number}"))


def make_wsgi_app(app_config):
    baseplate = Baseplate(app_config)
    baseplate.configure_observers()
    baseplate.configure_context({
        "redis": RedisClient(),
        "votes": {
            "keep": baseplate_config.Timespan,
            "top_size": baseplate_config.Integer,
        },
    })  # fmt: skip
    pool = pool_from_config(app_config, "redis.")
    baseplate.add_to_context("rankings", MessageQueue("rankings", pool))

    config = Configurator(settings=app_config)
    config.include(BaseplateConfigurator(baseplate).includeme)
    config.add_route("health", "/health")
    config.add_view(health, route_name="health", renderer="json")
    config.add_route("create_post", "/posts", request_method="POST")
    config.add_view(create_post, route_name="create_post", renderer="json")
    config.add_route("show_post", r"/posts/{id:\d+}")
    config.add_view(show_post, route_name="show_post", renderer="json")
    config.add_route("vote", r"/posts/{id:\d+}/vote", request_method="POST")
    config.add_view(vote, route_name="vote", renderer="json")
    config.add_route("top", "/top")
    config.add_view(top, route_name="top", renderer="json")
    return config.make_wsgi_app()
