"""What settings lead to outside of themselves: URLs, passwords, certificates and keys of TLS."""

from __future__ import annotations

import logging
import os
import ssl
from collections.abc import Mapping
from typing import Any

import redis
from redis.credentials import CredentialProvider

from .exceptions import ConfigurationError
from .settings import ClientSettings

logger = logging.getLogger(__name__)

_A_URL = "a URL such as redis://localhost:6379/0"


def client_settings(app_config: Mapping[str, Any], prefix: str = "redis.") -> ClientSettings:
    """Read a client's settings, and its URL from wherever they say that it is.

    See :meth:`ClientSettings.from_config`, which reads nothing but the settings.
    """
    return ClientSettings.from_config(app_config, prefix, read_url)


def read_url(key: str, place: str, environ: Mapping[str, str] = os.environ) -> str:
    """The text of a URL that doesn't stand among the settings.

    :param key: ``url_env`` or ``url_file``.
    :param place: the variable's name, or the file's path.
    :raises ValueError: if there is none; the text has nothing of what was read, and not the path,
        which may be a password in its place.
    """
    if key == "url_env":
        where = f"the environment variable {place}"
        text = environ.get(place)
        if text is None:
            raise ValueError(f"{where} is not set; set it to {_A_URL}")
    else:
        where = "the file"
        text, reason = _content(place)
        if reason:
            raise ValueError(
                f"cannot read the file: {reason}; write the path of one that has {_A_URL} in it"
            )
    if not text.strip():
        raise ValueError(f"{where} is empty; write {_A_URL} into it")
    if any("\ud800" <= character <= "\udfff" for character in text):
        raise ValueError(f"{where} is not UTF-8")  # so Python shows other bytes in os.environ
    return text


def _content(path: str) -> tuple[str, str]:
    """A file's text, and why there is none.

    Not an exception: it would be chained to one that has the path or the bytes.
    """
    try:
        with open(path, encoding="utf-8", newline="") as file:
            return file.read(), ""
    except (OSError, ValueError) as error:
        return "", getattr(error, "strerror", None) or type(error).__name__


class PasswordFile(CredentialProvider):
    """Credentials whose password is read from a file each time a connection is made.

    A rotated secret is picked up by the next connection. A line break at the file's end doesn't
    belong to the password.
    """

    def __init__(self, setting: str, username: str | None, path: str) -> None:
        self._setting, self._username, self._path = setting, username, path

    def get_credentials(self) -> tuple[str] | tuple[str, str]:
        text, reason = _content(self._path)
        if reason:
            # Not an OSError: redis-py would leave the socket open, and use it unauthenticated.
            raise redis.AuthenticationError(f"{self._setting}: cannot read the file: {reason}")
        password = text.rstrip("\r\n")
        if not password:
            raise redis.AuthenticationError(f"{self._setting}: the file is empty")
        return (self._username, password) if self._username else (password,)


def check_files(settings: ClientSettings) -> None:
    """Find what is wrong with the files that settings name now, not at the first request."""
    for key in (
        "password_file", "sentinel_password_file", "ssl_ca_certs", "ssl_certfile", "ssl_keyfile",
    ):  # fmt: skip
        path = getattr(settings, key)
        if path is not None and (reason := _why_unreadable(path)):
            # Somebody may have written the password itself in place of a file's name.
            shown = "the file" if settings.hides(key) else path
            raise ConfigurationError(f"{settings.prefix}{key}: cannot read {shown}: {reason}")
    if settings.ssl_ca_path is not None and not os.path.isdir(settings.ssl_ca_path):
        shown = "" if settings.hides("ssl_ca_path") else f"{settings.ssl_ca_path} "
        raise ConfigurationError(f"{settings.prefix}ssl_ca_path: {shown}is not a directory")
    if settings.parsed_url.is_tls:
        _check_tls(settings)


def _why_unreadable(path: str) -> str:
    try:
        with open(path, "rb"):
            return ""
    except (OSError, ValueError) as error:
        return getattr(error, "strerror", None) or str(error)


_warned: set[str] = set()  # a client's pool may be made again, as by a second application


def warn_if_unverified(settings: ClientSettings, kwargs: Mapping[str, Any]) -> None:
    """Log a warning if a client uses TLS without verifying who it talks to.

    One for each client and process.

    :param kwargs: the pool's keyword arguments, which win over the settings.
    """
    connection_class = kwargs.get("connection_class")
    speaks_tls = isinstance(connection_class, type) and issubclass(
        connection_class, redis.SSLConnection
    )
    if not settings.parsed_url.is_tls and not speaks_tls:
        return
    requirements = kwargs.get("ssl_cert_reqs", settings.ssl_cert_reqs)
    if requirements in ("none", None, ssl.CERT_NONE):
        key, value, better = "ssl_cert_reqs", "none", "required"
        problem = "the server's certificate isn't verified: it may be anybody's"
    elif requirements in ("optional", ssl.CERT_OPTIONAL):
        key, value, better = "ssl_cert_reqs", "optional", "required"
        problem = "it is left to Python whether the server's certificate is verified"
    elif not kwargs.get("ssl_check_hostname", settings.ssl_check_hostname):
        key, value, better = "ssl_check_hostname", "false", "true"
        problem = "the server's certificate may be that of any other host"
    else:
        return
    if key in kwargs:
        value += ", a keyword argument"
    elif key in settings.in_url:
        value += f", in the query of {settings.url_place}"
    message = f"{settings.prefix}{key}: {value}: {problem}; write {better}, or leave it out"
    if message not in _warned:
        _warned.add(message)
        logger.warning(message)


def _check_tls(settings: ClientSettings) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    key_is_encrypted = False

    def ssl_password() -> str:
        nonlocal key_is_encrypted
        key_is_encrypted = True
        return settings.ssl_password or ""

    try:
        key = "ssl_ca_certs"
        if settings.ssl_ca_certs is not None:
            context.load_verify_locations(cafile=settings.ssl_ca_certs)
        key = "ssl_ca_data"
        if settings.ssl_ca_data is not None:
            context.load_verify_locations(cadata=settings.ssl_ca_data)
        key = "ssl_certfile"
        if settings.ssl_certfile is not None:
            context.load_cert_chain(settings.ssl_certfile, settings.ssl_keyfile, ssl_password)
        key = "ssl_ciphers"
        if settings.ssl_ciphers is not None:
            context.set_ciphers(settings.ssl_ciphers)
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", None)
        message = f"cannot be used for TLS ({reason or 'malformed'})"
        if reason == "KEY_VALUES_MISMATCH" and settings.ssl_keyfile is not None:
            key = "ssl_keyfile"
            message = f"does not belong to the certificate in {settings.prefix}ssl_certfile"
        elif key == "ssl_certfile" and key_is_encrypted:
            key, message = "ssl_password", "does not open the private key"
        raise ConfigurationError(f"{settings.prefix}{key}: {message}") from None
