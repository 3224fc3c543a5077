"""The toolbar's panel of the application's settings, with the secrets of Redis clients hidden."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, quote_plus

from pyramid_debugtoolbar.panels.settings import SettingsDebugPanel

from ..interfaces import IRedisContextFactory
from ..settings.client import HIDDEN, ClientSettings

if TYPE_CHECKING:
    from pyramid.request import Request

_HIDDEN = "***"
# A password in a URL: all between the colon after the user name and the last @ of the value, since
# a password that is not encoded may contain anything.
_PASSWORD_IN_URL = re.compile(r"(?<=://)([^\s:/?#]*):.*(?=@)")
# A user name without a password, which is often the password in the wrong place.
_USER_IN_URL = re.compile(r"(?<=://)[^\s:/?#@]+(?=@)")
_PASSWORD_IN_QUERY = re.compile(r"(?<=[?&])((?:\w+_)?password)=[^&\s]*(?=['\"&\s])")
# The last part of a key, for the passwords that an application passes on in code.
_SECRET_KEY = re.compile(r"(password|passwd|secret|token)$", re.IGNORECASE)


class RedactedSettingsPanel(SettingsDebugPanel):
    """A panel in place of the toolbar's own, which shows all values of ``registry.settings``.

    It hides the values of the settings that may be secrets, for each client of the application,
    and those whose keys end in ``password``, ``passwd``, ``secret`` or ``token``. In all other
    values it hides the passwords in URLs and the clients' passwords.
    """

    def __init__(self, request: Request) -> None:
        super().__init__(request)
        clients = dict(_clients(request.registry))
        keys = {f"{prefix}{key}" for prefix in clients for key in HIDDEN}
        secrets = {text for settings in clients.values() for text in _secrets(settings)}
        urls = {f"{prefix}url": settings.url for prefix, settings in clients.items()}
        settings: Mapping[str, Any] = request.registry.settings
        self.data["settings"] = [
            (key, _shown(key, settings[key], shown, keys, urls, secrets))
            for key, shown in self.data["settings"]
        ]


def _clients(registry: Any) -> Iterator[tuple[str, ClientSettings]]:
    for _, factory in registry.getUtilitiesFor(IRedisContextFactory):
        settings = getattr(factory.connection_pool, "client_settings", None)
        if settings is not None:
            yield settings.prefix, settings


def _secrets(settings: ClientSettings) -> Iterator[str]:
    values = [getattr(settings, key) for key in HIDDEN]
    values += [value for key, value in settings.keywords.items() if key in HIDDEN]
    for value in values:
        if isinstance(value, str) and value:
            text = str.__str__(value)
            yield from {text, repr(text)[1:-1], quote(text, safe=""), quote(text), quote_plus(text)}


def _shown(
    key: str, value: object, shown: str, keys: set[str], urls: Mapping[str, str], secrets: set[str]
) -> str:
    if key in urls:
        return repr(urls[key])
    if key in keys or _SECRET_KEY.search(key):
        return repr(_HIDDEN) if value else shown
    for secret in sorted(secrets, key=len, reverse=True):
        shown = shown.replace(secret, _HIDDEN)
    shown = _PASSWORD_IN_URL.sub(rf"\1:{_HIDDEN}", shown)
    shown = _PASSWORD_IN_QUERY.sub(rf"\1={_HIDDEN}", shown)
    return _USER_IN_URL.sub(_HIDDEN, shown)
