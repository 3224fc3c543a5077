"""The pages that create a link, show it, follow it, and list the most-followed links."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any

from pyramid.csrf import BadCSRFToken
from pyramid.httpexceptions import HTTPFound, HTTPNotFound, HTTPSeeOther
from pyramid.request import Request
from pyramid.response import Response
from pyramid.view import exception_view_config, view_config

from ..links import (
    Click,
    Statistics,
    add_link,
    checked_url,
    count_click,
    find_link,
    link_with_clicks,
    links_one_by_one,
    statistics,
)

HOME = "example_app:templates/home.jinja2"


@view_config(route_name="home", request_method="GET", renderer=HOME)
def home(request: Request) -> dict[str, Any]:
    return {"url": "", "error": None}


@view_config(route_name="home", request_method="POST", renderer=HOME)
def shorten(request: Request) -> dict[str, Any] | Response:
    text = request.POST.get("url")
    if not isinstance(text, str):  # missing, or a file
        text = ""
    try:
        url = checked_url(text)
    except ValueError as error:
        request.response.status_int = 400
        return {"url": text, "error": str(error)}
    # Pyramid keeps each text that route_url() puts into a path. New codes come without an end, so
    # they are appended here, as in the templates.
    return HTTPSeeOther(f"{request.route_url('links')}/{add_link(request.links, url)}")


@exception_view_config(BadCSRFToken, renderer=HOME)
def expired_form(request: Request) -> dict[str, Any]:
    request.response.status_int = 400
    return {"url": "", "error": "That form is no longer valid. Please send it again."}


@view_config(route_name="link", request_method="GET", renderer="example_app:templates/link.jinja2")
def link(request: Request) -> dict[str, Any]:
    code = request.matchdict["code"]
    url, clicks = link_with_clicks(request.links, code)
    if url is None:
        raise HTTPNotFound
    return {"code": code, "url": url, "clicks": clicks}


@view_config(
    route_name="links", request_method="GET", renderer="example_app:templates/links.jinja2"
)
def links(request: Request) -> dict[str, Any]:
    return {"links": links_one_by_one(request.links)}


@view_config(route_name="follow", request_method="GET")
def follow(request: Request) -> Response:
    code = request.matchdict["code"]
    url = find_link(request.links, code)
    if url is None:
        raise HTTPNotFound
    count_click(request.links, code)
    request.clicks.put(Click(code, datetime.now(timezone.utc)).to_message())
    return HTTPFound(url)


@view_config(route_name="top", request_method="GET", renderer="example_app:templates/top.jinja2")
def top(request: Request) -> dict[str, Statistics]:
    return {"statistics": statistics(request.links)}
