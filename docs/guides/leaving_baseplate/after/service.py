"""Posts and votes, on pyramid_baseplate_redis."""

from types import SimpleNamespace

from opentelemetry import trace
from prometheus_client import Counter
from pyramid.config import Configurator
from pyramid.httpexceptions import HTTPBadRequest, HTTPNotFound
from pyramid.response import Response

from pyramid_baseplate_redis import Timespan

tracer = trace.get_tracer("votes")
POSTS_CREATED = Counter("votes_posts_created", "Posts that were created")
VOTES_CAST = Counter("votes_cast", "First votes of a user on a post")


def health(request):
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
    POSTS_CREATED.inc()
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
        VOTES_CAST.inc()
    request.ranking_jobs.put_json({"post": number})
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
    with tracer.start_as_current_span("score"):
        return sum(int(value) for value in request.redis.hvals(f"votes:{number}"))


def not_found(request):
    return Response("Not Found", status=404)


def main(global_config, **settings):
    votes = SimpleNamespace(
        keep=Timespan(settings["votes.keep"]),
        top_size=int(settings["votes.top_size"]),
    )
    config = Configurator(settings=settings)
    config.include("pyramid_baseplate_redis")
    config.add_request_method(lambda request: votes, "votes", property=True)
    config.add_notfound_view(not_found)
    config.add_redis_health_view("/health/redis")
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
