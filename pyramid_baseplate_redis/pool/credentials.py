"""Credentials that are read anew for each connection, for passwords that are rotated."""

from __future__ import annotations

import redis
from redis.credentials import CredentialProvider

from ..settings.sources import _content


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
        text, reason = _content(self._path)
        if reason:
            # Not an OSError: redis-py would keep the socket open and use it without a login.
            raise redis.AuthenticationError(f"{self._setting}: cannot read the file: {reason}")
        password = text.rstrip("\r\n")
        if not password:
            raise redis.AuthenticationError(f"{self._setting}: the file is empty")
        return (self._username, password) if self._username else (password,)
