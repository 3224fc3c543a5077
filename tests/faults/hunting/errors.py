"""The errors that a hunt expects."""

from __future__ import annotations

import redis
from redis.exceptions import LockError, NoScriptError

from pyramid_baseplate_redis.exceptions import TimedOutError

# What may happen to anybody whose network, server or neighbour fails. ForkedConnectionError and
# PoolReleaseError are not here: they are for those who do wrong.
EXPECTED = (redis.ConnectionError, redis.TimeoutError, redis.WatchError, LockError, TimedOutError,
            NoScriptError)  # fmt: skip


class Interrupted(BaseException):
    """What is raised at a random place of a worker."""
