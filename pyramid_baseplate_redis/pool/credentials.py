"""Credentials: where a connection gets them, and how they stay out of an error's tracebacks.

Passwords in files are read anew for each connection.
"""

from __future__ import annotations

import traceback
from typing import Any

import redis
from redis.credentials import CredentialProvider

from ..settings.client import ClientSettings
from ..settings.sources import file_content


def server_credentials(settings: ClientSettings) -> dict[str, Any]:
    """Return a credential provider, or else a user name and a password; redis-py takes one kind."""
    if settings.keywords.get("credential_provider") is not None:
        return {}
    username = settings.keyword_argument("username")
    if settings.password_file is not None and settings.keywords.get("password") is None:
        return _from_file(f"{settings.prefix}password_file", username, settings.password_file)
    return {"username": username, "password": settings.keyword_argument("password")}


def sentinel_credentials(settings: ClientSettings) -> dict[str, Any]:
    """Return the same for the Sentinels, which have their own users and passwords."""
    username, path = settings.sentinel_username, settings.sentinel_password_file
    if path is not None:
        return _from_file(f"{settings.prefix}sentinel_password_file", username, path)
    return {"username": username, "password": settings.keyword_argument("sentinel_password")}


def _from_file(setting: str, username: str | None, path: str) -> dict[str, Any]:
    provider = PasswordFile(setting, username, path)
    return {"credential_provider": provider, "username": None, "password": None}


class PasswordFile(CredentialProvider):
    """Credentials with a password that is read from a file for each new connection.

    The next connection uses a rotated password. Line breaks at the end of the file don't belong to
    the password.

    :param setting: the name of the setting, for messages.
    :param username: the user's name; ``None`` for the default user.
    :param path: the file's path.
    """

    def __init__(self, setting: str, username: str | None, path: str) -> None:
        self._setting, self._username, self._path = setting, username, path

    def get_credentials(self) -> tuple[str] | tuple[str, str]:
        """Read the password; redis-py calls this.

        :raises redis.AuthenticationError: the file is empty or cannot be read.
        """
        text, reason = file_content(self._path)
        if reason:
            # Not an OSError: redis-py would keep the socket open and use it without a login.
            raise redis.AuthenticationError(f"{self._setting}: cannot read the file: {reason}")
        password = text.rstrip("\r\n")
        if not password:
            raise redis.AuthenticationError(f"{self._setting}: the file is empty")
        return (self._username, password) if self._username else (password,)


def clear_credentials(error: BaseException, handled: BaseException | None) -> None:
    """Clear the local variables in the tracebacks of an error of connecting and of its contexts.

    redis-py's functions have the password in theirs, and error reports show them. Functions that
    are still running keep theirs: the caller of this one and its callers.

    :param error: the error.
    :param handled: the exception that was being handled when connecting began; it is left alone.
    """
    each: BaseException | None = error
    while each is not None and each is not handled:
        traceback.clear_frames(each.__traceback__)
        each = each.__context__
