"""What is said of a connection's errors beyond redis-py's text: which client, which server, why."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import redis
from redis.exceptions import RedisClusterException

_EXPLAINED = (redis.ConnectionError, redis.TimeoutError, redis.exceptions.InvalidResponse)


def add_context(error: BaseException, client: str, connection: Any, unsent: bool) -> bool:
    """Say in an error of a connection which client and which server it is about.

    :param error: changed in place: it stays the very object that redis-py raised.
    :param client: the client's name.
    :param unsent: whether nothing of a command was sent; :func:`~.exceptions.is_retryable` asks.
    :returns: whether it is one and hasn't been explained before.
    """
    if not isinstance(error, _EXPLAINED):
        return False
    if unsent:
        error.unsent = True  # type: ignore[union-attr]  # ours, for is_retryable()
    text = str(error.args[0]) if error.args else type(error).__name__
    if text.startswith((f"{client}: ", f"{client}.")):
        return False  # passing through for a second time, or about a setting
    address = address_of(connection)
    where = "" if address in text else f" ({address})"
    hint = _tls_hint(connection, error) if unsent else ""
    error.args = (f"{client}: {text}{where}{hint}", *error.args[1:])
    return True


def explain_unfound(error: redis.ConnectionError, client: str, where: str) -> None:
    """Say in an error of Sentinel's which client it is about, and where it has asked."""
    error.unsent = True  # type: ignore[attr-defined]  # ours, as above
    error.args = (f"{client}: {error or type(error).__name__} ({where})", *error.args[1:])


_HASH_TAGS = (
    '; in a Cluster, keys that are used together need a common hash tag: "{user:1}:name" and '
    '"{user:1}:mail"'
)


def explain_cross_slot(error: BaseException) -> None:
    """Say what to do in an error about keys that aren't in one slot of a Cluster."""
    text = str(error)
    if isinstance(error, redis.exceptions.ClusterCrossSlotError):
        crosses = True
    else:
        crosses = isinstance(error, RedisClusterException) and any(
            part in text for part in ("same key slot", "same slot", "different slots")
        )
    if crosses and not text.endswith(_HASH_TAGS):
        error.args = (f"{text}{_HASH_TAGS}", *error.args[1:])


def hide_arguments(error: BaseException, args: Sequence[Any]) -> None:
    """Leave a command's name alone where redis-py quotes its arguments: one may be a secret.

    :param args: the command's.
    """
    if isinstance(error, RedisClusterException) and len(args) > 1:
        text, quoted = str(error), str(tuple(args))
        if quoted in text:
            error.args = (text.replace(quoted, f"({args[0]!r}, ...)"), *error.args[1:])


def address_of(connection: Any) -> str:
    """Where a connection goes."""
    path = getattr(connection, "path", None)
    if path is not None:
        return str(path)
    return f"{connection.host}:{getattr(connection, 'port', '')}"


def _tls_hint(connection: Any, error: BaseException) -> str:
    """What is likely wrong when one side speaks TLS and the other doesn't."""
    if isinstance(connection, redis.SSLConnection):
        if isinstance(error, redis.TimeoutError) or "WRONG_VERSION" in str(error):
            return "; does the server speak TLS on this port? If it doesn't, write redis://"
    elif isinstance(error, redis.exceptions.InvalidResponse) or _hung_up(error):
        return "; does the server expect TLS on this port? If it does, write rediss://"
    return ""


def _hung_up(error: BaseException) -> bool:
    """Whether the server ended the connection while the client logged in."""
    return any(text in str(error) for text in ("closed by server", "reset by peer"))
