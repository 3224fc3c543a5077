"""Pages that the soak adds to the example app: each asks Redis, and its answer has the question."""

from __future__ import annotations

import json
import time
from typing import Any

import redis
from pyramid.config import Configurator
from pyramid.request import Request

from .bounds import LOCK_WAIT, MESSAGE_WAIT

PREFIX = "/soak"
_SECONDS = 60  # for which the pages' keys live


def includeme(config: Configurator) -> None:
    """Add the pages, before the app's own route that matches every path."""
    for view in (echo, pipeline, transaction, watch, lock, pubsub):
        config.add_route(f"soak_{view.__name__}", f"{PREFIX}/{view.__name__}/{{text}}")
        config.add_view(view, route_name=f"soak_{view.__name__}", renderer="json")


def echo(request: Request) -> list[str]:
    """Ask with one command."""
    return [request.links.echo(request.matchdict["text"])]


def pipeline(request: Request) -> list[str]:
    """Ask with three commands at once."""
    with request.links.pipeline("soak", transaction=False) as commands:
        for number in range(3):
            commands.echo(f"{request.matchdict['text']}-{number}")
        return list(commands.execute())


def transaction(request: Request) -> list[str]:
    """Write and read in one transaction."""
    text = request.matchdict["text"]
    with request.links.pipeline("soak") as commands:
        commands.set(f"soak:{text}", text, ex=_SECONDS).get(f"soak:{text}")
        return [commands.execute()[1]]


def watch(request: Request) -> list[Any]:
    """Read a watched key, which is new, and write it.

    Answer 409 after a ``WatchError``, which redis-py raises when a connection fails that watches.
    """
    text = request.matchdict["text"]
    try:
        with request.links.pipeline("soak") as commands:
            commands.watch(f"soak:{text}")
            before = commands.get(f"soak:{text}")
            commands.multi()
            commands.set(f"soak:{text}", text, ex=_SECONDS).echo(text)
            return [before, commands.execute()[1]]
    except redis.WatchError:
        return _conflict(request)


def lock(request: Request) -> list[str | None]:
    """Write and read while a lock is held, or answer 409 if another request holds it."""
    text = request.matchdict["text"]
    key = f"soak:locked:{text[-1]}"
    try:
        with request.links.lock(f"{key}:lock", timeout=5, blocking_timeout=LOCK_WAIT):
            request.links.set(key, text, ex=_SECONDS)
            return [request.links.get(key)]
    except redis.exceptions.LockError:
        return _conflict(request)


def _conflict(request: Request) -> list[Any]:
    request.response.status_int = 409
    return [request.matchdict["text"]]


def pubsub(request: Request) -> list[str]:
    """Subscribe to a channel, publish to it and wait for the message."""
    text = request.matchdict["text"]
    with request.links.pubsub() as subscriber:
        subscriber.subscribe(f"soak:{text}")
        end = time.monotonic() + MESSAGE_WAIT
        published = False
        while (left := end - time.monotonic()) > 0:
            message = subscriber.get_message(timeout=left)
            if message and message["type"] == "subscribe" and not published:
                request.links.publish(f"soak:{text}", json.dumps(text))
                published = True
            elif message and message["type"] == "message":
                return [json.loads(message["data"])]
    raise redis.TimeoutError(f"no message on soak:{text} within {MESSAGE_WAIT} seconds")
