"""Views of articles, which are slow to load."""

from __future__ import annotations

from typing import Any

from pyramid.request import Request

from .caching import region


def article(request: Request) -> Any:
    number = request.matchdict["number"]
    return region.get_or_create(f"article:{number}", lambda: request.articles.load(number))


def change(request: Request) -> dict[str, str]:
    number = request.matchdict["number"]
    request.articles.store(number, request.params["title"])
    region.delete(f"article:{number}")
    return {}
