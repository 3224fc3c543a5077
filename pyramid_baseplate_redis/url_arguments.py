"""What a Redis URL says beside the address: its user name, its password, its query arguments.

Arguments have the names of redis-py, and its units; their values are checked like the settings.
"""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any

from . import grammar
from .urls import MOST_DATABASES, NOT_DATABASE_0, RedisURL


# redis-py's own reading of these URL arguments; the others are read like the settings.
def _url_seconds(value: str) -> timedelta:
    return grammar.Timespan(f"{value} seconds")


def _positive_url_seconds(value: str) -> timedelta:
    return grammar.positive_timespan(_url_seconds(value))


_SECONDS = "a number of seconds, such as 0.5"
_IN_URL: dict[str, tuple[str, Callable[[str], Any]]] = {
    "timeout": ("pool_timeout", _url_seconds),
    "socket_timeout": ("socket_timeout", _positive_url_seconds),
    "socket_connect_timeout": ("socket_connect_timeout", _positive_url_seconds),
    "health_check_interval": ("health_check_interval", _url_seconds),
}
_NOT_IN_URL = {
    "url_env", "url_file",
    "pool_timeout", "max_idle_time", "max_lifetime", "leak_warning", "retries", "retry_budget",
    "breaker_failures", "breaker_reset", "required", "health_timeout", "password_file", "trace",
    "trace_query_text",
    "trace_exclude", "sentinel_username", "sentinel_password", "sentinel_password_file",
    "min_other_sentinels", "read_from", "read_from_replicas", "load_balancing",
    "require_full_coverage", "metrics", "track_key_reads_sample_rate",
    "track_key_writes_sample_rate",
}  # fmt: skip


def url_values(
    url: RedisURL, parsers: Mapping[str, Callable[[Any], Any]], prefix: str
) -> tuple[RedisURL, dict[str, Any]]:
    """What a URL itself says.

    :param parsers: those of the settings, by key.
    :param prefix: the settings', for what is told about an argument.
    :returns: the URL with the ``db`` of its query, and the values by setting.
    :raises ValueError: if an argument is unknown or malformed, or there are two of one meaning;
        the text never contains a value.
    """
    allowed = {key: (key, parsers[key]) for key in parsers if key not in _NOT_IN_URL} | _IN_URL
    values: dict[str, Any] = {}
    for key in ("username", "password"):
        if getattr(url, key) is not None:
            values[key] = getattr(url, key)
    for argument, raw in url.arguments:
        if argument == "db":
            allowed_numbers = f"a whole number from 0 to {MOST_DATABASES}"
            parse = grammar.whole_number(0, MOST_DATABASES)
            number = _read("db", parse, allowed_numbers, raw)
            if url.db is not None and url.db != number:
                raise ValueError("its path and its query name two databases")
            if url.is_cluster and number:
                raise ValueError(NOT_DATABASE_0)
            url = dataclasses.replace(url, db=number)
        elif argument not in allowed:
            raise ValueError(_unknown_argument(argument, allowed))
        else:
            key, parse = allowed[argument]
            if key in values:
                raise ValueError(f"has two values for {key}")
            form = _SECONDS if argument in _IN_URL else f"it as in {prefix}{key}"
            values[key] = _read(argument, parse, form, raw)
    return url, values


def _read(name: str, parse: Callable[[str], Any], form: str, raw: str) -> Any:
    try:
        return parse(raw)
    except ValueError:
        pass
    # Without the value, and without an error that has it: nothing of a URL is quoted.
    raise ValueError(f"its query argument {name} has a malformed value; write {form}")


def _unknown_argument(name: str, allowed: Mapping[str, Any]) -> str:
    near = difflib.get_close_matches(name, [*allowed, "db"], n=1)
    hint = f"; did you mean {near[0]}?" if near else ""
    return f"has an unknown query argument{hint}"
