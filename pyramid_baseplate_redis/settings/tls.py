"""Checks at startup: the files that settings name, and how TLS is verified."""

from __future__ import annotations

import logging
import os
import ssl

from ..exceptions import ConfigurationError
from . import parsers
from .client import ClientSettings

logger = logging.getLogger(__package__)

# Messages that this process has logged: a second application makes the same pools again.
_warned: set[str] = set()


def verify(settings: ClientSettings, uses_tls: bool) -> None:
    """Check the files that settings name and the TLS options, before a pool is made from them.

    :param settings: with the pool's keyword arguments.
    :param uses_tls: whether the connections use TLS.
    :raises ConfigurationError: a file cannot be read, OpenSSL cannot use it, or a keyword argument
        allows old versions of TLS.
    """
    check_files(settings)
    version = settings.keywords.get("ssl_min_version")
    if version is not None and version < ssl.TLSVersion.TLSv1_2:
        raise ConfigurationError(
            f"{settings.prefix}ssl_min_version: the keyword argument allows versions below TLSv1.2."
            " Pass ssl.TLSVersion.TLSv1_2 or TLSv1_3."
        )
    if uses_tls:
        warn_if_unverified(settings)


def check_files(settings: ClientSettings) -> None:
    """Check the files that settings name, at startup and not at the first request.

    :raises ConfigurationError: a file cannot be read, or OpenSSL cannot use it.
    """
    for key in (
        "password_file", "sentinel_password_file", "ssl_ca_certs", "ssl_certfile", "ssl_keyfile",
    ):  # fmt: skip
        path = getattr(settings, key)
        if path is not None and (reason := _why_unreadable(path)):
            # The password itself may have been written here in place of a file's name.
            shown = "the file" if settings.hides(key) else path
            problem = parsers.without_addition(path)[1] or f"cannot read {shown}: {reason}"
            raise ConfigurationError(f"{settings.prefix}{key}: {problem}")
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
        return
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", None)
        message = f"cannot be used for TLS ({reason or 'malformed'})"
        if reason == "KEY_VALUES_MISMATCH" and settings.ssl_keyfile is not None:
            key = "ssl_keyfile"
            message = f"does not belong to the certificate in {settings.prefix}ssl_certfile"
        elif key == "ssl_certfile" and key_is_encrypted:
            key, message = "ssl_password", "does not open the private key"
    raise ConfigurationError(f"{settings.prefix}{key}: {message}")


def warn_if_unverified(settings: ClientSettings) -> None:
    """Log a warning if the settings turn off the verification of the server's certificate.

    It is logged once for each client and process.
    """
    requirements = settings.keyword_argument("ssl_cert_reqs")
    if requirements in ("none", None, ssl.CERT_NONE):
        key, value, better = "ssl_cert_reqs", "none", "required"
        problem = "the server's certificate is not verified and may belong to anyone"
    elif requirements in ("optional", ssl.CERT_OPTIONAL):
        key, value, better = "ssl_cert_reqs", "optional", "required"
        problem = "Python decides whether the server's certificate is verified"
    elif not settings.keyword_argument("ssl_check_hostname"):
        key, value, better = "ssl_check_hostname", "false", "true"
        problem = "the server's certificate may be that of another host"
    else:
        return
    if key in settings.keywords:
        value += ", a keyword argument"
    elif key in settings.in_url:
        value += f", in the query of {settings.url_place}"
    message = f"{settings.prefix}{key}: {value}: {problem}. Write {better}, or leave it out."
    if message not in _warned:
        _warned.add(message)
        logger.warning(message)
