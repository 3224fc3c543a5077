"""The routes of the queues page, and addresses of its pages."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pyramid.request import Request

_ENTRY = r"{entry_id:\d+-\d+}"
_ACTION = "{action:replay|discard}"

#: The end of each route's pattern, in the order in which they are matched. A queue's name is a
#: Python identifier, so no queue hides the style sheet.
PATTERNS = {
    "overview": "",
    "style": "/style.css",
    "queue": "/{queue_name}",
    "message": "/{queue_name}/messages/{entry_id}",
    "letter": f"/{{queue_name}}/dead/{_ENTRY}",
    "move": f"/{{queue_name}}/dead/{_ENTRY}/{_ACTION}",
    "move_all": f"/{{queue_name}}/dead/{_ACTION}",
}


def route_name(base: str, page: str) -> str:
    """Return the name of a page's route.

    :param base: what all routes of this queues page have in common.
    :param page: a key of :data:`PATTERNS`.
    """
    return f"{base} {page}"


class Links:
    """Makes paths to the pages of the queues page that a request is for."""

    def __init__(self, request: Request) -> None:
        self._request = request
        self._base = request.matched_route.name.rpartition(" ")[0]

    def __call__(self, page: str, query: Mapping[str, object] | None = None, **values: Any) -> str:
        """Return the path of a page.

        :param page: a key of :data:`PATTERNS`.
        :param query: the query parameters.
        :param values: the values for the pattern. The request's own are used for the others, such
            as those of a route prefix.
        """
        merged = {**self._request.matchdict, **values}
        path: str = self._request.route_path(
            route_name(self._base, page), _query=query or None, **merged
        )
        return path
