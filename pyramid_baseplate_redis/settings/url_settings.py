"""The place of a client's URL (``foo.url``, ``foo.url_env``, ``foo.url_file``) and its settings."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Callable, Iterable, Mapping
from datetime import timedelta
from functools import partial
from typing import Any

from ..exceptions import ConfigurationError
from . import parsers
from .fields import attempt, elsewhere
from .url import MOST_DATABASES, NOT_DATABASE_0, RedisURL

URL_KEYS = ("url", "url_env", "url_file")
PLACES = {"url_env": parsers.variable_name, "url_file": parsers.path_of_url}

# A function of a key (url_env or url_file) and its value. It returns the URL's text or raises a
# ValueError with the reason. Callers that may read files pass it in.
ReadURL = Callable[[str, str], str]


def nothing_is_read(key: str, place: str) -> str:
    raise ValueError("is not read here")


def raw_url_of(prefix: str, given: Mapping[str, Any], read_url: ReadURL) -> tuple[str, Any]:
    """Return the URL's place, as messages name it after the prefix, and its unparsed text.

    :param given: the client's settings, without the prefix.
    :raises ConfigurationError: there is no URL, there are two, or it cannot be read.
    """
    found = [key for key in URL_KEYS if key in given]
    if not found:
        raise ConfigurationError(
            f"{prefix}url: is missing; write a URL such as redis://localhost:6379/0"
        )
    key = found[-1]
    if len(found) > 1:
        others = parsers.listed([f"{prefix}{key}" for key in found[:-1]])
        raise ConfigurationError(
            f"{prefix}{key}: conflicts with {others}; write the URL in one place only"
        )
    if key == "url":
        return key, given[key]
    place, problem = attempt(PLACES[key], given[key])
    if not problem:
        url, problem = attempt(partial(read_url, key), place)
    if problem:
        raise ConfigurationError(f"{prefix}{key}: {problem} {elsewhere(prefix)}")
    where = f"the environment variable {place}" if key == "url_env" else "the file"
    return f"{key}: {where}", url


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
