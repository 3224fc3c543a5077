"""Credentials that are read for each new connection, so that a rotated password is picked up."""

from __future__ import annotations

import redis
from redis.credentials import CredentialProvider

from ..settings.sources import _content


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
