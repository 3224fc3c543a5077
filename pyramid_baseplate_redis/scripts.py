"""Lua scripts, and the lock that is made of them."""

from __future__ import annotations

from contextvars import ContextVar
from typing import Any

from redis.commands.core import Script
from redis.lock import Lock

_in_script: ContextVar[bool] = ContextVar("pyramid_baseplate_redis_in_script", default=False)


def loads_script() -> bool:
    """Whether redis-py is about to load the script that the server says it doesn't know."""
    return _in_script.get()


class MonitoredScript(Script):
    """A Lua script; that the server doesn't know it yet, which redis-py mends, is no failure."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        token = _in_script.set(True)
        try:
            return super().__call__(*args, **kwargs)
        finally:
            _in_script.reset(token)


class MonitoredLock(Lock):
    """redis-py's lock, whose scripts belong to the lock.

    redis-py keeps them on the class, with the client that made the first lock: here that would be
    a request's, kept for ever.
    """

    def register_scripts(self) -> None:
        self.lua_release = self.redis.register_script(self.LUA_RELEASE_SCRIPT)
        self.lua_extend = self.redis.register_script(self.LUA_EXTEND_SCRIPT)
        self.lua_reacquire = self.redis.register_script(self.LUA_REACQUIRE_SCRIPT)
