"""Lua scripts that redis-py loads by itself: those of Script objects and those of locks."""

from __future__ import annotations

import inspect
from typing import Any

from redis.commands.core import Script
from redis.exceptions import NoScriptError
from redis.lock import Lock

from ..deadlines import DeadlinePolicy
from ..telemetry.operations import Operation

_MOST_FRAMES = 8  # from execute_command up to Script.__call__ there are three


def fail_command(operation: Operation, error: BaseException) -> None:
    """Record that a command failed, except if redis-py loads the script that is missing."""
    if isinstance(error, NoScriptError) and _loads_script():
        operation.end_noscript()
    else:
        operation.fail(error)


def _loads_script() -> bool:
    """Return whether a :class:`~redis.commands.core.Script` sent the current EVALSHA.

    A Script loads the script after NOSCRIPT, which is therefore no error of the command. Only the
    call stack distinguishes it from an EVALSHA of the application. Called only after NOSCRIPT.
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
    """A lock that registers its scripts on the instance, and waits no longer than its client may.

    redis-py registers them on the class, with the client of the first lock. That would keep a
    client, and its request, alive forever.
    """

    def register_scripts(self) -> None:
        self.lua_release = self.redis.register_script(self.LUA_RELEASE_SCRIPT)
        self.lua_extend = self.redis.register_script(self.LUA_EXTEND_SCRIPT)
        self.lua_reacquire = self.redis.register_script(self.LUA_REACQUIRE_SCRIPT)

    def acquire(self, sleep: Any = None, *args: Any, **kwargs: Any) -> bool:
        """Acquire the lock; see :meth:`redis.lock.Lock.acquire`.

        :raises DeadlineExceededError: the lock was taken until the end of a block of ``within()``.
        """
        deadlines: DeadlinePolicy | None = getattr(self.redis, "deadlines", None)
        if deadlines is not None:
            sleep = deadlines.pause(self.sleep if sleep is None else sleep)
        acquired: bool = super().acquire(sleep, *args, **kwargs)
        return acquired


_lock_classes: dict[Any, Any] = {}


def monitored_lock_class(lock_class: Any) -> Any:
    """Return a subclass of ``lock_class`` that registers its scripts on the instance.

    A class that overrides ``register_scripts`` is returned unchanged.
    """
    if getattr(lock_class, "register_scripts", None) is not Lock.register_scripts:
        return lock_class
    if lock_class not in _lock_classes:
        _lock_classes[lock_class] = type(lock_class.__name__, (_PerClientScripts, lock_class), {})
    return _lock_classes[lock_class]
