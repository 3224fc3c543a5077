"""The files that settings name: the password's, and the certificates and keys of TLS."""

from __future__ import annotations

import os
import ssl

import redis
from redis.credentials import CredentialProvider

from .exceptions import ConfigurationError
from .settings import ClientSettings


class PasswordFile(CredentialProvider):
    """Credentials whose password is read from a file each time a connection is made.

    A rotated secret is picked up by the next connection. A line break at the file's end doesn't
    belong to the password.
    """

    def __init__(self, setting: str, username: str | None, path: str) -> None:
        self._setting, self._username, self._path = setting, username, path

    def get_credentials(self) -> tuple[str] | tuple[str, str]:
        try:
            with open(self._path, encoding="utf-8", newline="") as file:
                password = file.read().rstrip("\r\n")
        except (OSError, UnicodeError) as error:
            # Not an OSError: redis-py would leave the socket open, and use it unauthenticated.
            reason = getattr(error, "strerror", None) or type(error).__name__
            raise redis.AuthenticationError(
                f"{self._setting}: cannot read the file: {reason}"
            ) from None
        if not password:
            raise redis.AuthenticationError(f"{self._setting}: the file is empty")
        return (self._username, password) if self._username else (password,)


def check_files(settings: ClientSettings) -> None:
    """Find what is wrong with the files that settings name now, not at the first request."""
    for key in ("password_file", "ssl_ca_certs", "ssl_certfile", "ssl_keyfile"):
        path = getattr(settings, key)
        if path is not None:
            try:
                with open(path, "rb"):
                    pass
            except (OSError, ValueError) as error:
                reason = getattr(error, "strerror", None) or error
                # Somebody may have written the password itself in place of a file's name.
                shown = "the file" if key == "password_file" else path
                raise ConfigurationError(
                    f"{settings.prefix}{key}: cannot read {shown}: {reason}"
                ) from None
    if settings.ssl_ca_path is not None and not os.path.isdir(settings.ssl_ca_path):
        raise ConfigurationError(
            f"{settings.prefix}ssl_ca_path: {settings.ssl_ca_path} is not a directory"
        )
    if settings.parsed_url.scheme == "rediss":
        _check_tls(settings)


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
