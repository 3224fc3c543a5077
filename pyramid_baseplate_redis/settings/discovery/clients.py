"""The names of the clients that the settings declare."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from ..url import has_redis_scheme, scheme_problem
from ..url_settings import PLACES, URL_KEYS, ReadURL, nothing_is_read


def discovered_clients(
    app_config: Mapping[str, Any],
    named: Collection[str] | None = None,
    read_url: ReadURL = nothing_is_read,
) -> list[str]:
    """Return the names of the clients that the settings declare, sorted.

    :param app_config: all settings of the application.
    :param named: the names in ``baseplate_redis.clients``. If it is ``None``, a client is declared
        by ``<identifier>.url`` with a Redis scheme, or by ``<identifier>.url_env`` or ``url_file``
        that does not lead to a URL with another scheme. Forgotten variables and text without a
        scheme are reported as errors, since other libraries have no such keys.
    :param read_url: as for :meth:`ClientSettings.from_config`.
    """
    if named is not None:
        return sorted({name for name in named if name})
    names = set()
    for key, value in app_config.items():
        name, _, url_key = key.rpartition(".") if isinstance(key, str) else ("",) * 3
        if name.isidentifier() and url_key in URL_KEYS and _is_ours(url_key, value, read_url):
            names.add(name)
    return sorted(names)


def _is_ours(url_key: str, value: Any, read_url: ReadURL) -> bool:
    if url_key == "url":
        return has_redis_scheme(value)
    try:
        text = read_url(url_key, PLACES[url_key](value))
    except ValueError:
        return True
    return "://" not in text or scheme_problem(text)[1]
