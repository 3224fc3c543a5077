"""The effective settings of a client and the origin of each, without secrets, for predis."""

from __future__ import annotations

import ssl
from datetime import timedelta
from typing import Any, NamedTuple

from .client import SETTING_OF_KEYWORD, SETTINGS, ClientSettings

_HIDDEN = "***"
_RATES = ("track_key_reads_sample_rate", "track_key_writes_sample_rate")
_ADDRESS = ("host", "port", "db", "path")  # keyword arguments that are a part of the URL
_UNITS = (("hour", 3_600_000), ("minute", 60_000), ("second", 1_000), ("millisecond", 1))


class EffectiveSetting(NamedTuple):
    """A setting in the form that may be shown, written as in an .ini file.

    ``origin`` is ``default``, ``.ini`` (the application's settings), ``URL``, ``environment
    variable <name>``, ``file (<key>)`` or ``keyword argument``.
    """

    key: str
    value: str
    origin: str


def effective_settings(settings: ClientSettings) -> list[EffectiveSetting]:
    """Return a client's effective settings, in the order of the fields, without absent ones.

    :param settings: the settings of the client's pool, which include its keyword arguments.
    """
    shown = settings.shown()
    del shown["prefix"]
    url_origin = _url_origin(settings)
    found = {"url": EffectiveSetting("url", str(shown.pop("url", _HIDDEN)), url_origin)}
    for key, value in shown.items():
        found[key] = EffectiveSetting(key, _written(key, value), _origin(settings, key))
    for key in ("password", "sentinel_password"):
        if getattr(settings, f"{key}_file") is not None:
            origin = f"file ({settings.prefix}{key}_file)"
            found[key] = EffectiveSetting(key, _HIDDEN, origin)
    for keyword, value in settings.keywords.items():
        key = SETTING_OF_KEYWORD.get(keyword, keyword)
        found[key] = EffectiveSetting(key, _of_keyword(settings, key, value), "keyword argument")
    if settings.keywords.get("retry") is not None:  # it replaces ours
        found["retries"] = EffectiveSetting("retries", "0", "keyword argument")
    return list(found.values())


def _url_origin(settings: ClientSettings) -> str:
    if settings.url_env is not None:
        return f"environment variable {settings.url_env}"
    if settings.url_file is not None:
        return f"file ({settings.prefix}url_file)"
    return ".ini"


def _origin(settings: ClientSettings, key: str) -> str:
    if key in settings.in_url:
        origin = _url_origin(settings)
        return "URL" if origin == ".ini" else origin
    return ".ini" if key in settings.in_config else "default"


def _of_keyword(settings: ClientSettings, key: str, value: Any) -> str:
    """Return a keyword argument's value, or only its type if it is not a setting.

    An argument that is not a setting may contain secrets.
    """
    if value is None:
        return "none"
    if key in SETTINGS:
        names_nobody = key == "username" and not _has_password(settings)
        if settings.hides(key) or names_nobody:
            return _HIDDEN
        if isinstance(SETTINGS[key].default, timedelta) and isinstance(value, (int, float)):
            return _written(key, timedelta(seconds=value))
        return _written(key, value)
    if key in _ADDRESS and isinstance(value, (str, int)):
        return str(value)
    return type(value).__name__


def _has_password(settings: ClientSettings) -> bool:
    given = (settings.password, settings.password_file, settings.keywords.get("password"))
    return any(value is not None for value in given)


def _written(key: str, value: Any) -> str:
    """Return a value as written in an .ini file, except that each ``%`` is single."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, timedelta):
        return _time_span(value)
    if isinstance(value, ssl.TLSVersion):
        return value.name.replace("_", ".")
    if isinstance(value, (frozenset, set, list, tuple)):
        return ", ".join(sorted(map(str, value)))
    if key in _RATES and isinstance(value, float):
        return f"{value * 100:g}%"
    return str(value)


def _time_span(span: timedelta) -> str:
    milliseconds = span / timedelta(milliseconds=1)
    if not milliseconds:
        return "0 seconds"
    for unit, length in _UNITS:
        if milliseconds % length == 0 and (number := round(milliseconds / length)):
            return f"{number} {unit}{'' if number == 1 else 's'}"
    return f"{milliseconds:g} milliseconds"
