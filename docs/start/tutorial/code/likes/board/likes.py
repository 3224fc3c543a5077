"""The likes of the messages, in the sorted set ``likes``."""

from collections.abc import Sequence

from pyramid.httpexceptions import HTTPSeeOther
from pyramid.view import view_config
from redis import Redis

from .models import Message


def count_likes(redis: Redis, messages: Sequence[Message]) -> dict[int, int]:
    """Return the number of likes of each message, by its id, in one round trip."""
    ids = [message.id for message in messages]
    scores = redis.zmscore("likes", ids) if ids else []
    return {id: int(score or 0) for id, score in zip(ids, scores, strict=True)}


@view_config(route_name="like", request_method="POST")
def like(request):
    request.store.zincrby("likes", 1, request.matchdict["id"])
    return HTTPSeeOther(request.route_url("home"))
