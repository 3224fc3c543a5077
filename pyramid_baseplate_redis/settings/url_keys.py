"""The keys ``foo.url``, ``foo.url_env`` and ``foo.url_file``, of which each client has one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from ..exceptions import ConfigurationError
from . import parsers
from .fields import attempt, elsewhere

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
