"""The errors that a hunt expects."""

from __future__ import annotations

import redis
from redis.exceptions import AskError, ClusterError, LockError, NoScriptError, RedisClusterException

from pyramid_baseplate_redis.exceptions import TimedOutError, is_retryable

# What may happen to any caller whose network, server or neighbor fails. ForkedConnectionError and
# PoolReleaseError are not here: they report a caller's mistake.
# ClusterError is raised until a replica has taken over, and for several keys of a slot that moves.
# AskError is raised by a transaction in such a slot, which cannot follow an ASK.
# RedisClusterException is raised if no node can be reached; is_expected() refuses its other
# reasons.
EXPECTED = (redis.ConnectionError, redis.TimeoutError, redis.WatchError, LockError, TimedOutError,
            NoScriptError, ClusterError, AskError, RedisClusterException)  # fmt: skip


class Interrupted(BaseException):
    """What is raised at a random place of a worker."""


def is_expected(error: BaseException) -> bool:
    """Return whether an error may happen to a caller that makes no mistake."""
    if isinstance(error, RedisClusterException):
        return is_retryable(error) is not False
    return isinstance(error, EXPECTED)
