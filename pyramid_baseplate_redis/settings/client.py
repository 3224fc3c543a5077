"""ClientSettings: the ``foo.*`` keys of an .ini file, checked, for one client.

Nothing here does I/O: :mod:`.sources` reads URLs from files and environment variables, and
:mod:`.tls` checks the files that settings name.
"""

from __future__ import annotations

import dataclasses
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from ..exceptions import ConfigurationError
from .client_fields import ClientFields
from .contradictions import check_together, missing_features
from .fields import own_keys, parsed, parsed_all, settings_of, unknown_key
from .redaction import KeywordArguments, NotPickled, Secret
from .url import parse_url, redacted
from .url_settings import URL_KEYS, ReadURL, nothing_is_read, raw_url_of, url_values


@dataclass(frozen=True)
class ClientSettings(ClientFields, NotPickled):
    """The settings of one client, checked and with every default filled in.

    Create it with :meth:`from_config`; it is immutable. ``repr()`` and ``dataclasses.asdict()``
    show no secret, and it cannot be pickled. :class:`.ClientFields` has the fields.
    """

    def __post_init__(self) -> None:
        object.__setattr__(self, "keywords", KeywordArguments(self.keywords))
        for name in HIDDEN:
            if isinstance(value := getattr(self, name), str):
                object.__setattr__(self, name, Secret(value))
        if self.username is not None:
            # Without a password it may be the password: redis://secret@host is a common slip.
            hidden = str if self._has_password else Secret
            object.__setattr__(self, "username", hidden(self.username))

    @property
    def name(self) -> str:
        """The client's name: ``foo`` for the prefix ``foo.``"""
        return self.prefix[:-1]

    @property
    def db(self) -> int:
        return self.parsed_url.db or 0

    @property
    def tls(self) -> dict[str, Any]:
        """The ``ssl_*`` settings, as redis-py's keyword arguments of the same names."""
        names = [name for name, item in SETTINGS.items() if item.metadata["only"] == "TLS"]
        return {name: self.keyword_argument(name) for name in names}

    def overridden_by(self, keywords: Mapping[str, Any]) -> ClientSettings:
        """Return the settings together with keyword arguments of the pool, which win over them.

        :param keywords: in redis-py's units and types; times are seconds.
        """
        given = {**self.keywords, **keywords}
        # redis-py's own retries replace ours.
        retries = self.retries if given.get("retry") is None else 0
        return dataclasses.replace(self, keywords=given, retries=retries)

    def keyword_argument(self, keyword: str) -> Any:
        """Return the pool's keyword argument or, if it has none, the setting as redis-py takes it.

        :param keyword: redis-py's name, such as ``timeout`` for ``pool_timeout``.
        """
        if keyword in self.keywords:
            return self.keywords[keyword]
        value = getattr(self, SETTING_OF_KEYWORD[keyword])
        if isinstance(value, timedelta):
            return value.total_seconds()
        # A plain int, as redis-py reads it from a URL: RQ's SpawnWorker writes the repr of a pool's
        # keyword arguments into source code. The repr of an enum's member is not valid Python, and
        # that of a secret is not the secret.
        if isinstance(value, ssl.TLSVersion):
            return int(value)
        return str(value) if isinstance(value, Secret) else value

    @property
    def url_key(self) -> str:
        """The key that has the URL or its place: ``foo.url``, ``foo.url_env``, ``foo.url_file``."""
        return self.prefix + next((key for key in URL_KEYS[1:] if getattr(self, key)), "url")

    @property
    def url_place(self) -> str:
        """``foo.url``, or ``the URL of foo.url_env``: the subject of messages about the URL."""
        return f"the URL of {self.url_key}" if self._url_is_elsewhere else self.url_key

    @property
    def url(self) -> str:
        """The URL with ``***`` in place of a password: the only form in which it is shown.

        Just ``***`` if it comes from a file or an environment variable.
        """
        if self._url_is_elsewhere:
            return "***"
        return redacted(self.parsed_url, self.username, self._has_password, self.db)

    @property
    def _url_is_elsewhere(self) -> bool:
        return self.url_env is not None or self.url_file is not None

    @property
    def _has_password(self) -> bool:
        return self.password is not None or self.password_file is not None

    def __repr__(self) -> str:
        shown = ", ".join(f"{key}={value!r}" for key, value in self.shown().items())
        return f"ClientSettings({shown})"

    def shown(self) -> dict[str, object]:
        """Return the settings without those that are absent, with ``***`` in place of secrets."""
        pairs: dict[str, object] = {"prefix": self.prefix}
        if not self._url_is_elsewhere:
            pairs["url"] = self.url
        missing = missing_features(self.parsed_url)
        for name, item in SETTINGS.items():
            value = getattr(self, name)
            if value is not None and item.metadata["only"] not in missing:
                pairs[name] = "***" if self.hides(name) else value
        if self.username and not self._has_password:
            # It may be the password.
            pairs["username"] = "***"
        return pairs

    def hides(self, key: str) -> bool:
        """Return whether a setting's value is a secret, or part of a URL that is not shown."""
        return key in HIDDEN or (self._url_is_elsewhere and key in self.in_url)

    @classmethod
    def from_config(
        cls,
        app_config: Mapping[str, Any],
        prefix: str = "redis.",
        read_url: ReadURL = nothing_is_read,
    ) -> ClientSettings:
        """Read the settings whose keys start with ``prefix``.

        :param app_config: all settings of the application. Values are text, as in an .ini file,
            or already of the setting's type. Keys with another dot after the prefix
            (``redis.sessions.secret``) belong to other libraries and are ignored.
        :param prefix: with its dot, such as ``foo.``.
        :param read_url: returns the URL that ``foo.url_env`` or ``foo.url_file`` leads to; see
            :func:`.load_client_settings`.
        :raises ConfigurationError: there is no URL, a key is unknown, a value is malformed, or two
            settings contradict each other.
        """
        if not prefix.endswith(".") or prefix == ".":
            raise ConfigurationError('prefix: must end with a dot, such as "foo."')
        given = dict(own_keys(app_config, prefix))
        for key in given:
            if key not in SETTINGS and key != "url":
                raise ConfigurationError(unknown_key(prefix, key, [*SETTINGS, "url"]))
        where, raw_url = raw_url_of(prefix, given, read_url)
        url = parsed(prefix, where, parse_url, raw_url)
        given.pop("url", None)
        values = parsed_all(prefix, given, SETTINGS)
        url, in_url = parsed(prefix, where, lambda url: url_values(url, SETTINGS, prefix), url)
        settings = cls(
            prefix=prefix,
            parsed_url=url,
            in_url=frozenset(in_url),
            in_config=frozenset(values),
            **(values | in_url),
        )
        for key, value in in_url.items():
            if key in values and (key in ("password", "ssl_password") or values[key] != value):
                raise ConfigurationError(
                    f"{prefix}{key}: {settings.url_place} has one as well; write it in one place "
                    "only"
                )
        check_together(prefix, url, settings.url_place, values | in_url, SETTINGS)
        return settings


SETTINGS = settings_of(ClientSettings)
HIDDEN = frozenset(name for name, item in SETTINGS.items() if not item.repr)
#: The setting that a keyword argument of the pool overrides.
SETTING_OF_KEYWORD = {item.metadata["keyword"] or name: name for name, item in SETTINGS.items()}
