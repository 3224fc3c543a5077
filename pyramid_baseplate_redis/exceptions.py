"""The errors that this package raises in addition to redis-py's, and whether to retry after one."""

from __future__ import annotations

import redis
from pyramid.exceptions import ConfigurationError as PyramidConfigurationError
from redis.exceptions import RedisClusterException


class ConfigurationError(PyramidConfigurationError):
    """A setting is missing, malformed or contradicts another one.

    Raised while the application is built, never during a request. The message starts with the full
    setting key (``foo.socket_timeout: ...``) and never contains the value of a secret. If it is
    raised inside a Pyramid action, the caller sees
    :class:`pyramid.exceptions.ConfigurationExecutionError`, whose ``evalue`` is this error.
    """


class PoolTimeoutError(redis.exceptions.MaxConnectionsError):
    """No connection of the pool became free within ``pool_timeout``.

    Nothing was sent. It is a :class:`redis.ConnectionError`, like the error that redis-py raises in
    this case.
    """


class PoolReleaseError(redis.RedisError):
    """A connection was released that this pool did not hand out.

    It was released twice, belongs to another pool, or was checked out before a fork. The call has
    no effect.
    """


class CircuitOpenError(redis.ConnectionError):
    """The server failed ``breaker_failures`` times in a row, so commands fail without being sent.

    Raised at once, until ``breaker_reset`` has passed since the last failure.
    """


class DeadlineExceededError(redis.TimeoutError):
    """A call took longer than ``deadline`` or ``within()`` allow.

    If something was sent, the server may have executed the command; :func:`is_retryable` returns
    ``None`` then.

    :param text: the message.
    :param spent: the seconds that the call spent on each of its phases.
    :param unsent: whether no part of the command was sent.
    :param phase: the phase in which the time was up.
    """

    #: The seconds that the call spent on each of its phases, such as ``waiting for a connection``.
    spent: dict[str, float]
    #: The phase in which the time was up; empty if it was up before the call began.
    phase: str

    def __init__(
        self,
        text: str,
        spent: dict[str, float] | None = None,
        unsent: bool = False,
        phase: str = "",
    ) -> None:
        super().__init__(text)
        self.spent = dict(spent or {})
        self.unsent = unsent
        self.phase = phase

    def __reduce__(self) -> tuple[type[DeadlineExceededError], tuple[object, ...]]:
        return type(self), (self.args[0], self.spent, self.unsent, self.phase)


class ForkedConnectionError(redis.ConnectionError):
    """A connection that a process checked out was used by a process forked from it.

    Nothing was sent or read: the parent can go on using the connection.
    """


class MessageQueueError(Exception):
    """Base class of all errors of message queues."""


class TimedOutError(MessageQueueError):
    """No message arrived in the time allowed. The text is baseplate's."""

    def __init__(self) -> None:
        super().__init__("Timed out waiting for the message queue.")


class QueueFullError(MessageQueueError):
    """The queue already has ``max_length`` messages. Nothing was put."""

    def __init__(self, name: str, max_length: int) -> None:
        super().__init__(f"queue {name} is full: it may have {max_length} messages")


class LeaseLostError(MessageQueueError):
    """A message's lease expired, and another consumer has since received or settled it."""


class MessageFormatError(MessageQueueError):
    """An entry of the stream is not a message: it has no field ``body``.

    It is recorded as the error of the dead letter that the entry becomes.
    :attr:`.DurableMessage.json` raises it if a body is not JSON.
    """


#: What redis-py raises when a server cannot be reached or refuses a command. The second is raised
#: when no node of a Cluster can be reached, and is not a RedisError.
SERVER_ERRORS = (redis.RedisError, RedisClusterException)

#: The command was not executed: another node of the Cluster has the slot, or is about to get it.
#: MOVED is an AskError too.
REDIRECTION_ERRORS = (redis.exceptions.AskError, redis.exceptions.TryAgainError)

# The first class that the error is an instance of decides.
_RETRYABLE: list[tuple[type[BaseException], bool | None]] = [
    (redis.AuthenticationError, False),
    (redis.exceptions.AuthorizationError, False),
    (ForkedConnectionError, False),
    (CircuitOpenError, True),
    (redis.exceptions.MaxConnectionsError, True),
    (redis.BusyLoadingError, True),
    (redis.WatchError, True),
    (redis.exceptions.TryAgainError, True),
    (redis.exceptions.ClusterError, True),  # CLUSTERDOWN, MASTERDOWN, too many redirections
    (redis.exceptions.AskError, True),  # MOVED too
    (redis.exceptions.SlotNotCoveredError, True),
    (redis.ReadOnlyError, True),
    (redis.OutOfMemoryError, True),
    (redis.ConnectionError, None),
    (redis.TimeoutError, None),
]
# The codes of retryable errors for which redis-py has no class.
_RETRYABLE_CODES = ("BUSY", "MISCONF", "NOREPLICAS", "UNBLOCKED")


def is_retryable(error: BaseException) -> bool | None:
    """Return whether the operation that raised ``error`` can be retried, now or later.

    :returns: ``True`` if the server did not execute the command and may do so next time; ``None``
        if it is unknown whether the server executed it, in which case only operations that may run
        twice can be retried; ``False`` if it would fail again, or if ``error`` does not come from
        Redis. The reference of errors in the documentation has a table.
    """
    if isinstance(error, redis.WatchError) and lost_reply(error) is not None:
        return None
    if isinstance(error, RedisClusterException) and "cannot be connected" in str(error):
        # No node answered when the layout was refreshed; one may have executed the command before.
        return None
    for error_class, retryable in _RETRYABLE:
        if isinstance(error, error_class):
            unknown = retryable is None
            return True if unknown and getattr(error, "unsent", False) else retryable
    if isinstance(error, redis.ResponseError) and error.args:
        return str(error.args[0]).startswith(_RETRYABLE_CODES)
    return False


def lost_reply(error: redis.WatchError) -> Exception | None:
    """Return the connection's error after which EXEC may have been executed, or ``None``."""
    cause = connection_error(error)
    return None if getattr(cause, "unsent", False) else cause


def connection_error(error: redis.WatchError) -> Exception | None:
    """Return the connection's error that redis-py replaced with a WatchError, or ``None``.

    While keys are watched, redis-py replaces every connection error in this way:

    - also one after EXEC, which the server may have executed;
    - also the reply that the server is loading its data;
    - also a TimeoutError raised by a signal handler, which it mistakes for the socket's.
    """
    cause = error.__context__
    if isinstance(cause, (redis.ConnectionError, redis.TimeoutError, TimeoutError)):
        return cause
    return None
