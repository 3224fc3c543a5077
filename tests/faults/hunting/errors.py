"""The errors that a hunt expects."""

from __future__ import annotations

import redis
from redis.exceptions import ClusterDownError, LockError, NoScriptError, RedisClusterException

from pyramid_baseplate_redis.exceptions import TimedOutError, is_retryable

# What may happen to anybody whose network, server or neighbour fails. ForkedConnectionError and
# PoolReleaseError are not here: they are for those who do wrong.
# ClusterDownError is what nodes reply until a replica has taken over. RedisClusterException is
# raised if no node can be reached; its other reasons are not forgiven, see is_expected().
EXPECTED = (redis.ConnectionError, redis.TimeoutError, redis.WatchError, LockError, TimedOutError,
            NoScriptError, ClusterDownError, RedisClusterException)  # fmt: skip


class Interrupted(BaseException):
    """What is raised at a random place of a worker."""


def is_expected(error: BaseException) -> bool:
    """Return whether an error may happen to a caller that makes no mistake."""
    if isinstance(error, RedisClusterException):
        return is_retryable(error) is not False
    return isinstance(error, EXPECTED)
