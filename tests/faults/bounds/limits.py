"""The settings under which the bounds are measured.

No two times are equal, so that a bound shows its parts.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """Times in seconds."""

    pool: float = 0.15
    """``pool_timeout``"""
    connect: float = 0.3
    """``socket_connect_timeout``"""
    reply: float = 0.2
    """``socket_timeout``"""
    health: float = 0.5
    """``health_timeout``"""
    within: float = 0.1
    """the argument of ``within()``"""
    get: int = 1
    """the ``timeout`` of a list queue's ``get()``, which rounds it up to whole seconds"""
    receive: float = 0.4
    """the ``timeout`` of a durable queue's ``receive()``"""
    message: float = 0.25
    """the ``timeout`` of a subscriber's ``get_message()``"""
    look_up: float = 3.0
    """seconds that the resolver takes to give up a host name if no name server answers"""

    def settings(self) -> dict[str, str]:
        """Return the settings of the client ``foo``."""
        seconds = {
            "pool_timeout": self.pool,
            "socket_connect_timeout": self.connect,
            "socket_timeout": self.reply,
            "health_timeout": self.health,
        }
        return {f"foo.{key}": f"{value} seconds" for key, value in seconds.items()}
