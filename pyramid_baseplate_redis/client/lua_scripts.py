"""Lua scripts: which of them redis-py is loading, and the lock that is made of them."""

from __future__ import annotations

import inspect
from typing import Any

from redis.commands.core import Script
from redis.lock import Lock

_MOST_FRAMES = 8  # from execute_command up to Script.__call__ there are three


def loads_script() -> bool:
    """Whether a :class:`~redis.commands.core.Script` called, which loads what the server lacks.

    Nothing else tells its EVALSHA from anybody's; asked only when the server said NOSCRIPT.
    """
    frame = inspect.currentframe()
    for _ in range(_MOST_FRAMES):
        if frame is None:
            return False
        if frame.f_code is Script.__call__.__code__:
            return True
        frame = frame.f_back
    return False


class _PerClientScripts(Lock):
    """A lock whose scripts are its own.

    redis-py keeps them on the class, with the client that made the first lock: here that would be
    a request's, kept for ever.
    """

    def register_scripts(self) -> None:
        self.lua_release = self.redis.register_script(self.LUA_RELEASE_SCRIPT)
        self.lua_extend = self.redis.register_script(self.LUA_EXTEND_SCRIPT)
        self.lua_reacquire = self.redis.register_script(self.LUA_REACQUIRE_SCRIPT)


_lock_classes: dict[Any, Any] = {}


def monitored_lock_class(lock_class: Any) -> Any:
    """A subclass of ``lock_class`` with scripts of its own, if it has redis-py's otherwise."""
    if getattr(lock_class, "register_scripts", None) is not Lock.register_scripts:
        return lock_class
    if lock_class not in _lock_classes:
        _lock_classes[lock_class] = type(lock_class.__name__, (_PerClientScripts, lock_class), {})
    return _lock_classes[lock_class]
