"""The response to a request for a page or a link that does not exist."""

from __future__ import annotations

from pyramid.request import Request
from pyramid.view import notfound_view_config


@notfound_view_config(renderer="example_app:templates/404.jinja2")
def notfound(request: Request) -> dict[str, str]:
    request.response.status_int = 404
    return {}
