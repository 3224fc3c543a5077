"""Checks that the settings of a client agree with each other and with its URL."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import Field
from typing import Any

from ..exceptions import ConfigurationError
from .url import RedisURL

_NEEDED = {
    "TLS": "TLS; write rediss://",
    "Sentinel": "Sentinel; write redis+sentinel://",
    "Cluster": "a Cluster; write redis+cluster://",
}


def missing_features(url: RedisURL) -> frozenset[str]:
    """Return the features that some settings need and the URL does not have."""
    has = {"TLS": url.is_tls, "Sentinel": url.is_sentinel, "Cluster": url.is_cluster}
    return frozenset(name for name, present in has.items() if not present)


def check_together(
    prefix: str,
    url: RedisURL,
    url_place: str,
    values: Mapping[str, Any],
    settings: Mapping[str, Field[Any]],
) -> None:
    """Refuse settings that contradict each other or the URL.

    :param url_place: the place of the URL, for messages.
    :param values: the values of all settings that are set.
    :param settings: the fields of all settings.
    :raises ConfigurationError: two contradict each other.
    """
    _one_password(prefix, values, "password", "there is a password as well")
    if url.scheme == "embedded":
        for key in ("username", "password", "password_file"):
            if key in values:
                raise ConfigurationError(f"{prefix}{key}: an embedded server has no users")
    missing = missing_features(url)
    for key, item in settings.items():
        feature = item.metadata["only"]
        if feature in missing and key in values:
            needed = _NEEDED[feature]
            if feature == "TLS" and url.scheme.startswith("redis"):
                needed = f"TLS; write {url.scheme.replace('redis', 'rediss')}://"
            raise ConfigurationError(
                f"{prefix}{key}: needs {needed} in {url_place}, or leave it out"
            )
    _one_password(prefix, values, "sentinel_password", f"{prefix}sentinel_password is set as well")
    if "load_balancing" in values and not values.get("read_from_replicas"):
        raise ConfigurationError(
            f"{prefix}load_balancing: needs {prefix}read_from_replicas = true; set that as well, "
            "or leave it out"
        )
    for key in ("ssl_keyfile", "ssl_password"):
        if key in values and "ssl_certfile" not in values:
            raise ConfigurationError(f"{prefix}{key}: needs {prefix}ssl_certfile; set that as well")


def _one_password(prefix: str, values: Mapping[str, Any], key: str, problem: str) -> None:
    if key in values and f"{key}_file" in values:
        raise ConfigurationError(f"{prefix}{key}_file: {problem}; write it in one place only")
