"""Actors of dramatiq, and a view that sends them messages."""

from __future__ import annotations

from typing import Any

import dramatiq
from pyramid.config import Configurator
from pyramid.request import Request
from pyramid.threadlocal import get_current_request


@dramatiq.actor(queue_name="mail", max_retries=3, time_limit=60_000)
def send_welcome(user: str) -> None:
    get_current_request().foo.hincrby("welcomes", user, 1)


def sign_up(request: Request) -> dict[str, str]:
    message = send_welcome.send(request.params["user"])
    return {"message": message.message_id}


def send_after_commit(request: Request, actor: dramatiq.Actor[..., Any], *args: Any) -> None:
    """Send a message when the transaction of pyramid_tm has committed."""

    def hook(committed: bool) -> None:
        if committed:
            actor.send(*args)

    request.tm.get().addAfterCommitHook(hook)


def includeme(config: Configurator) -> None:
    config.add_route("sign_up", "/sign_up")
    config.add_view(sign_up, route_name="sign_up", renderer="json")
