"""The errors that this package raises beside those of redis-py, and which may be retried."""

from __future__ import annotations

import redis
from pyramid.exceptions import ConfigurationError as PyramidConfigurationError
from redis.exceptions import RedisClusterException


class ConfigurationError(PyramidConfigurationError):
    """A setting is missing, malformed or contradicts another one.

    Raised while the application is built, never by a request. The message starts with the full
    setting key (``foo.socket_timeout: ...``) and never contains the value of a secret. Raised
    inside a Pyramid action it reaches the caller as
    :class:`pyramid.exceptions.ConfigurationExecutionError`, whose ``evalue`` is this error.
    """


class PoolTimeoutError(redis.exceptions.MaxConnectionsError):
    """No connection of the pool became free within ``pool_timeout``.

    Nothing was sent. A :class:`redis.ConnectionError`, as what redis-py raises here.
    """


class PoolReleaseError(redis.RedisError):
    """A connection was released that isn't the pool's to take back.

    It was released before, belongs to another pool, or was taken before a fork. Nothing was done
    to it, and nobody else notices.
    """


class CircuitOpenError(redis.ConnectionError):
    """The server failed ``breaker_failures`` times in a row, and isn't asked for a while.

    Nothing was sent. Raised at once, for ``breaker_reset`` after the last failure.
    """


class ForkedConnectionError(redis.ConnectionError):
    """A connection that a process took was used by a process that was forked from it.

    Nothing was sent or read: the parent's connection is as it was.
    """


# The first class in this order that an error is an instance of decides.
_RETRYABLE: list[tuple[type[BaseException], bool | None]] = [
    (redis.AuthenticationError, False),
    (redis.exceptions.AuthorizationError, False),
    (ForkedConnectionError, False),
    (CircuitOpenError, True),
    (redis.exceptions.MaxConnectionsError, True),
    (redis.BusyLoadingError, True),
    (redis.WatchError, True),
    (redis.exceptions.TryAgainError, True),
    (redis.exceptions.ClusterError, True),  # CLUSTERDOWN, MASTERDOWN, redirected too often
    (redis.exceptions.AskError, True),  # MOVED too
    (redis.exceptions.SlotNotCoveredError, True),
    (redis.ReadOnlyError, True),
    (redis.OutOfMemoryError, True),
    (redis.ConnectionError, None),
    (redis.TimeoutError, None),
]
# Of errors that redis-py has no class for.
_RETRYABLE_CODES = ("BUSY", "MISCONF", "NOREPLICAS", "UNBLOCKED")


def is_retryable(error: BaseException) -> bool | None:
    """Whether it makes sense to do the same again, later or at once.

    :returns: ``True`` if the server has not executed the command, and might the next time;
        ``None`` if nobody knows whether it was executed, so that only what may happen twice can be
        repeated; ``False`` if it would fail again, or isn't an error of Redis. The README has the
        table.
    """
    if isinstance(error, redis.WatchError) and lost_reply(error) is not None:
        return None
    if isinstance(error, RedisClusterException) and "cannot be connected" in str(error):
        return None  # no node could be asked who serves what; some node may have executed it
    for error_class, retryable in _RETRYABLE:
        if isinstance(error, error_class):
            unknown = retryable is None
            return True if unknown and getattr(error, "unsent", False) else retryable
    if isinstance(error, redis.ResponseError) and error.args:
        return str(error.args[0]).startswith(_RETRYABLE_CODES)
    return False


def lost_reply(error: redis.WatchError) -> Exception | None:
    """The error of the connection that redis-py turned into a WatchError, or ``None``.

    It does that to any while keys are watched, also to one behind EXEC, which the server may have
    executed. And to the TimeoutError of a signal's handler, which it takes for the socket's.
    """
    cause = error.__context__
    if not isinstance(cause, (redis.ConnectionError, redis.TimeoutError, TimeoutError)):
        return None
    return None if getattr(cause, "unsent", False) else cause


class MessageQueueError(Exception):
    """What every error of a message queue derives from."""


class TimedOutError(MessageQueueError):
    """No message arrived in the time allowed. The text is baseplate's."""

    def __init__(self) -> None:
        super().__init__("Timed out waiting for the message queue.")


class QueueFullError(MessageQueueError):
    """The queue has ``max_length`` messages; nothing was put."""

    def __init__(self, name: str, max_length: int) -> None:
        super().__init__(f"queue {name} is full: it may have {max_length} messages")


class LeaseLostError(MessageQueueError):
    """A message's lease had run out, and it is somebody else's by now, or was finished by him."""


class MessageFormatError(MessageQueueError):
    """An entry of the stream is no message: it has no field ``body``.

    Never raised: it is the error of the dead letter that such an entry becomes.
    """


# The latter if no node of a Cluster can be asked; it isn't a RedisError.
#: What redis-py raises when a server cannot be asked; the second isn't a RedisError.
SERVER_ERRORS = (redis.RedisError, RedisClusterException)


#: The command was not executed: another node of the Cluster has the slot, or will have it.
#: MovedError is an AskError.
REDIRECTION_ERRORS = (redis.exceptions.AskError, redis.exceptions.TryAgainError)
