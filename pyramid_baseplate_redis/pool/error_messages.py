"""Text added to redis-py's errors: the client, the server and the likely cause."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import redis
from redis.exceptions import RedisClusterException

_EXPLAINED = (redis.ConnectionError, redis.TimeoutError, redis.exceptions.InvalidResponse)


def add_context(error: BaseException, client: str, connection: Any, unsent: bool) -> bool:
    """Add the names of the client and the server to an error of a connection.

    :param error: changed in place, so that it stays the object that redis-py raised.
    :param client: the client's name.
    :param connection: the connection; its address is added unless the text has it.
    :param unsent: whether no part of a command was sent, for :func:`~.exceptions.is_retryable`.
    :returns: ``True`` if the error is one of a connection and had no context yet.
    """
    if not isinstance(error, _EXPLAINED):
        return False
    if unsent:
        error.unsent = True  # type: ignore[union-attr]  # read by is_retryable()
    text = _text_of(error) or type(error).__name__
    if text.startswith((f"{client}: ", f"{client}.")):
        return False  # it has its context already, or is about a setting
    address = address_of(connection)
    where = "" if address in text else f" ({address})"
    hint = _hint(connection, error, client) if unsent else ""
    error.args = (f"{client}: {text}{where}{hint}", *error.args[1:])
    return True


def note_client(error: redis.ResponseError, client: str, connection: Any) -> None:
    """Add a note with the names of the client and the server to an error that a server replied.

    A traceback shows it below the error. The error's text and arguments stay: callers compare
    them. Python 3.10 has no notes.

    :param error: the error; its second note of the same text is left out.
    :param client: the client's name.
    :param connection: the connection that has read the reply.
    """
    if sys.version_info >= (3, 11):
        note = f"{client}: the server {address_of(connection)} replied with this error"
        if note not in getattr(error, "__notes__", ()):
            error.add_note(note)


def explain_unfound(error: redis.ConnectionError, client: str, where: str) -> None:
    """Add the client's name and the Sentinels to an error of their discovery.

    :param error: changed in place.
    :param client: the client's name.
    :param where: text about the Sentinels that were asked.
    """
    error.unsent = True  # type: ignore[attr-defined]  # as above
    error.args = (f"{client}: {_text_of(error) or type(error).__name__} ({where})", *error.args[1:])


_HASH_TAGS = (
    '; in a Cluster, keys that are used together need a common hash tag: "{user:1}:name" and '
    '"{user:1}:mail"'
)


def explain_cross_slot(error: BaseException) -> None:
    """Add the remedy to an error about keys in different slots of a Cluster.

    :param error: changed in place; other errors are left alone.
    """
    text = _text_of(error)
    if isinstance(error, redis.exceptions.ClusterCrossSlotError):
        crosses = True
    else:
        crosses = isinstance(error, RedisClusterException) and any(
            part in text for part in ("same key slot", "same slot", "different slots")
        )
    if crosses and not text.endswith(_HASH_TAGS):
        error.args = (f"{text}{_HASH_TAGS}", *error.args[1:])


def hide_arguments(error: BaseException, args: Sequence[Any]) -> None:
    """Remove a command's arguments from an error in which redis-py quotes them.

    They may be secrets. Only the command's name stays.

    :param error: changed in place.
    :param args: the command's name and arguments.
    """
    if isinstance(error, RedisClusterException) and len(args) > 1:
        text, quoted = _text_of(error), str(tuple(args))
        if quoted in text:
            error.args = (text.replace(quoted, f"({args[0]!r}, ...)"), *error.args[1:])


def _text_of(error: BaseException) -> str:
    """Return the first argument; ``str()`` would show all of them as a tuple."""
    return str(error.args[0]) if error.args else ""


def address_of(connection: Any) -> str:
    """Return the address of a connection: a path, or host and port."""
    path = getattr(connection, "path", None)
    if path is not None:
        return str(path)
    # A connection class of the application's may have neither.
    return f"{getattr(connection, 'host', '')}:{getattr(connection, 'port', '')}"


def _hint(connection: Any, error: BaseException, client: str) -> str:
    """Return the likely remedy for a failed login or handshake, or an empty text."""
    if isinstance(error, redis.AuthenticationError):
        return _password_hint(connection, client)
    return _tls_hint(connection, error)


def _password_hint(connection: Any, client: str) -> str:
    """Return a hint if no password is configured, else an empty text."""
    if any(getattr(connection, name, None) for name in ("password", "credential_provider")):
        return ""
    if getattr(connection, "username", None):
        return (
            "; there is a user name, but no password. In a URL a password follows a colon: "
            "redis://:password@host"
        )
    return f"; the server wants a password: write {client}.password or {client}.password_file"


def _tls_hint(connection: Any, error: BaseException) -> str:
    """Return a hint if it seems that only one side speaks TLS, else an empty text."""
    if isinstance(connection, redis.SSLConnection):
        if isinstance(error, redis.TimeoutError) or "WRONG_VERSION" in str(error):
            return "; does the server speak TLS on this port? If it doesn't, write redis://"
    elif isinstance(error, redis.exceptions.InvalidResponse) or _hung_up(error):
        return "; does the server expect TLS on this port? If it does, write rediss://"
    return ""


def _hung_up(error: BaseException) -> bool:
    """Return whether the server closed the connection while the client logged in."""
    return any(text in str(error) for text in ("closed by server", "reset by peer"))
