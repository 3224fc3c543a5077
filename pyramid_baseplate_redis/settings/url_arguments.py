"""The settings that a Redis URL contains: its user name, its password and its query arguments."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Callable, Iterable, Mapping
from datetime import timedelta
from typing import Any

from . import parsers
from .url import MOST_DATABASES, NOT_DATABASE_0, RedisURL


def url_values(
    url: RedisURL, settings: Mapping[str, dataclasses.Field[Any]], prefix: str
) -> tuple[RedisURL, dict[str, Any]]:
    """Return the settings that a URL contains: user name, password and query arguments.

    Times are numbers of seconds, as redis-py reads them. All other arguments are written like the
    settings.

    :param settings: the fields of all settings, by name.
    :param prefix: the settings' prefix, for messages about an argument.
    :returns: the URL with the ``db`` of its query, and the values by setting.
    :raises ValueError: an argument is unknown or malformed, or sets a value that the URL already
        has; the message contains no value.
    """
    allowed = {
        item.metadata["keyword"] or name: item
        for name, item in settings.items()
        if item.metadata["in_url"]
    }
    values: dict[str, Any] = {}
    for key in ("username", "password"):
        if getattr(url, key) is not None:
            values[key] = getattr(url, key)
    for argument, raw in url.arguments:
        if argument == "db":
            allowed_numbers = f"a whole number from 0 to {MOST_DATABASES}"
            number = _read("db", parsers.whole_number(0, MOST_DATABASES), allowed_numbers, raw)
            if url.db is not None and url.db != number:
                raise ValueError("has one database in its path and another one in its query")
            if url.is_cluster and number:
                raise ValueError(NOT_DATABASE_0)
            url = dataclasses.replace(url, db=number)
            continue
        item = allowed.get(argument)
        if item is None:
            raise ValueError(_unknown_argument(argument, [*allowed, "db"]))
        if item.name in values:
            raise ValueError(f"has two values for {item.name}")
        form = f"it as in {prefix}{item.name}"
        if isinstance(item.default, timedelta):
            raw, form = f"{raw} seconds", "a number of seconds, such as 0.5"
        values[item.name] = _read(argument, item.metadata["parse"], form, raw)
    return url, values


def _read(name: str, parse: Callable[[str], Any], form: str, raw: str) -> Any:
    try:
        return parse(raw)
    except ValueError:
        pass
    # Neither the message nor a chained exception may contain the value.
    raise ValueError(f"its query argument {name} has a malformed value; write {form}")


def _unknown_argument(name: str, allowed: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, allowed, n=1)
    hint = f"; did you mean {near[0]}?" if near else ""
    return f"has an unknown query argument{hint}"
