"""The longest time that a page may take, from the app's settings and the page's calls.

docs/guides/pools-and-timeouts.rst has the sums: with ``deadline``, a call takes at most that long.
A subscriber has no deadline, so its timeouts are added up.
"""

from __future__ import annotations

from dataclasses import dataclass

from pyramid_baseplate_redis.settings.sources import load_client_settings

SLACK = 2.0
"""Seconds for everything else, the same for each page: Python's work, and a machine that other
programs use at the same time."""
LOCK_WAIT = 0.5
MESSAGE_WAIT = 1.0
FOLLOWED = 4  # links that the visitors of a worker class follow; the page "links" has all of them

CALLS = {
    "home": 0,  # the form
    "shorten": 1,  # SET
    "link": 1,  # a pipeline
    "follow": 3,  # GET, a transaction, a put
    "top": 2,  # a pipeline, MGET
    "links": 1 + 2 * 2 * FOLLOWED,  # ZRANGE, and two for each link of both classes
    "echo": 1,
    "pipeline": 1,
    "transaction": 1,
    "watch": 3,  # WATCH, GET, EXEC
}


@dataclass(frozen=True)
class Bounds:
    """The longest time of each page, in seconds, without :data:`SLACK`."""

    deadline: float
    pool_timeout: float
    connect_timeout: float
    socket_timeout: float
    health_timeout: float

    @classmethod
    def of(cls, settings: dict[str, str]) -> Bounds:
        """Return the bounds of an application's settings.

        :raises ValueError: the client has no deadline.
        """
        links = load_client_settings(settings, "links.")
        if links.deadline is None:
            raise ValueError("links.deadline: not set. Set it, as the bounds are sums of it.")
        return cls(
            links.deadline.total_seconds(),
            links.pool_timeout.total_seconds(),
            links.socket_connect_timeout.total_seconds(),
            links.socket_timeout.total_seconds(),
            links.health_timeout.total_seconds(),
        )

    def of_page(self, page: str) -> float:
        """Return the seconds that a page may take."""
        if page == "health":
            return self.health_timeout
        if page == "lock":  # SET, GET, the release
            return LOCK_WAIT + 4 * self.deadline
        if page == "pubsub":  # connecting, logging in, SUBSCRIBE; PUBLISH; the message
            opening = self.pool_timeout + self.connect_timeout + 2 * self.socket_timeout
            return opening + self.deadline + MESSAGE_WAIT
        return CALLS[page] * self.deadline
