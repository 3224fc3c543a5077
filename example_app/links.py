"""Store links and clicks in Redis.

These are the keys:

====================== =========== ==================================================
key                    type        holds
====================== =========== ==================================================
``link:<code>``        string      the address that a short link leads to
``links:followed``     sorted set  codes, by how often they were followed
``links:clicks``       string      how often links were followed altogether
``links:days``         hash        clicks of each day, written by the worker
``links:latest``       list        the latest clicks, newest first, written by the worker
``{clicks}:messages``  stream      the message queue between the app and the worker
====================== =========== ==================================================
"""

from __future__ import annotations

import json
import logging
import re
import secrets
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import quote, urlsplit, urlunsplit

from pyramid_baseplate_redis import MonitoredRedisConnection

logger = logging.getLogger(__name__)

MOST_CHARACTERS = 2000
MOST_SHOWN = 10
_DAYS_SHOWN = 7
_CODE_LENGTH = 6
_ALPHABET = "23456789abcdefghjkmnpqrstuvwxyzABCDEFGHJKLMNPQRSTUVWXYZ"  # no 0 and O, 1, l and I
_ALLOWED_IN_URLS = "%/:?#[]@!$&'()*+,;=-._~"
_HOST = re.compile(r"[a-z0-9._-]+|[0-9a-f:.]+")


def checked_url(text: str) -> str:
    """Return ``text`` as a web address in ASCII, the form that a ``Location`` header needs.

    :raises ValueError: a link may not lead to it. The message is written for the user.
    """
    text = text.strip()
    if len(text) > MOST_CHARACTERS:
        raise ValueError(f"That address is too long; {MOST_CHARACTERS} characters are allowed.")
    try:
        parts = urlsplit(text)
        host = (parts.hostname or "").encode("idna").decode("ascii")
        port = parts.port
    except ValueError:
        raise ValueError("That is not a web address.") from None
    if parts.scheme not in ("http", "https"):
        raise ValueError("Write an address that starts with http:// or https://.")
    if parts.username is not None:
        raise ValueError("An address with a user name or a password can't be shortened.")
    if not _HOST.fullmatch(host):
        raise ValueError("That is not a web address.")
    netloc = f"[{host}]" if ":" in host else host
    if port is not None:
        netloc += f":{port}"
    path, query, fragment = (
        quote(part, safe=_ALLOWED_IN_URLS) for part in (parts.path, parts.query, parts.fragment)
    )
    url = urlunsplit((parts.scheme, netloc, path, query, fragment))
    if len(url) > MOST_CHARACTERS:  # a character outside of ASCII becomes up to 12
        raise ValueError(
            f"That address is too long: in ASCII it has {len(url)} characters; {MOST_CHARACTERS} "
            "are allowed."
        )
    return url


@dataclass(frozen=True)
class Click:
    """The event that a visitor followed a link."""

    code: str
    at: datetime

    def to_message(self) -> str:
        return json.dumps({"code": self.code, "at": self.at.isoformat(timespec="seconds")})

    @classmethod
    def from_message(cls, message: bytes | str) -> Click:
        """Read what :meth:`to_message` wrote.

        :raises ValueError: ``message`` is not a click.
        """
        try:
            fields = json.loads(message)
            code = str(fields["code"])
            code.encode()  # JSON may have half a surrogate pair, which can't be in a page
            return cls(code, datetime.fromisoformat(fields["at"]))
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"not a click: {message[:100]!r}") from error


def new_code() -> str:
    """Return a code that is hard to guess."""
    return "".join(secrets.choice(_ALPHABET) for _ in range(_CODE_LENGTH))


def add_link(redis: MonitoredRedisConnection, url: str) -> str:
    """Create a link to ``url`` and return its code."""
    while True:
        code = new_code()
        if redis.set(f"link:{code}", url, nx=True):
            return code


def find_link(redis: MonitoredRedisConnection, code: str) -> str | None:
    """Return the address that a link leads to, or ``None`` if there is no link with this code."""
    url: Any = redis.get(f"link:{code}")
    return None if url is None else str(url)


def link_with_clicks(redis: MonitoredRedisConnection, code: str) -> tuple[str | None, int]:
    """Return the address that a link leads to, and how often it was followed."""
    with redis.pipeline("link_page", transaction=False) as pipeline:
        pipeline.get(f"link:{code}")
        pipeline.zscore("links:followed", code)
        url, clicks = pipeline.execute()
    return url, int(clicks or 0)


def count_click(redis: MonitoredRedisConnection, code: str) -> None:
    """Count one more click on a link."""
    with redis.pipeline("count_click") as pipeline:
        pipeline.zincrby("links:followed", 1, code)
        pipeline.incr("links:clicks")
        pipeline.execute()


def keep_click(redis: MonitoredRedisConnection, click: Click) -> None:
    """Add a click to the statistics. The worker calls this."""
    with redis.pipeline("keep_click") as pipeline:
        pipeline.hincrby("links:days", click.at.date().isoformat(), 1)
        pipeline.lpush("links:latest", click.to_message())
        pipeline.ltrim("links:latest", 0, MOST_SHOWN - 1)
        pipeline.execute()


def _clicks(messages: Iterable[str]) -> Iterator[Click]:
    """Read clicks; log and skip what another program may have added to the list."""
    for message in messages:
        try:
            yield Click.from_message(message)
        except ValueError as error:
            logger.warning("links:latest: skipped an entry: %s", error)


@dataclass(frozen=True)
class Statistics:
    """The figures on the page of the most-followed links."""

    most_followed: list[tuple[str, str, int]]  # code, address, clicks
    total: int
    days: list[tuple[str, int]]
    latest: list[Click]
    waiting: int


def links_one_by_one(redis: MonitoredRedisConnection) -> list[tuple[str, str | None, int]]:
    """Return codes, addresses and clicks of all followed links, with two round trips for each.

    It is slow on purpose: the debug toolbar's Redis panel finds it and suggests a pipeline.
    :func:`statistics` reads everything in two round trips.
    """
    codes: Any = redis.zrange("links:followed", 0, -1, desc=True)
    links = []
    for code in codes:
        url = find_link(redis, code)
        clicks: Any = redis.zscore("links:followed", code)
        links.append((code, url, int(clicks)))
    return links


def statistics(redis: MonitoredRedisConnection) -> Statistics:
    """Read the statistics in two round trips, which are two spans."""
    with redis.pipeline("statistics", transaction=False) as pipeline:
        pipeline.zrange("links:followed", 0, MOST_SHOWN - 1, desc=True, withscores=True)
        pipeline.get("links:clicks")
        pipeline.hgetall("links:days")
        pipeline.lrange("links:latest", 0, MOST_SHOWN - 1)
        pipeline.xlen("{clicks}:messages")
        followed, total, days, latest, waiting = pipeline.execute()
    urls: Any = redis.mget([f"link:{code}" for code, _ in followed]) if followed else []
    return Statistics(
        most_followed=[
            (code, url, int(clicks))
            for (code, clicks), url in zip(followed, urls, strict=True)
            if url is not None
        ],
        total=int(total or 0),
        days=[(day, int(clicks)) for day, clicks in sorted(days.items(), reverse=True)][
            :_DAYS_SHOWN
        ],
        latest=list(_clicks(latest)),
        waiting=waiting,
    )
