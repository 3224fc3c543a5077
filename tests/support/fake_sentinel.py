"""A Sentinel that says of the primary what it is told to."""

from __future__ import annotations

from typing import Any

from redis.sentinel import MasterNotFoundError

from pyramid_baseplate_redis.pool.sentinel.discovery import SentinelManager


class FakeSentinel:
    """Says of the primary what it is told to."""

    def __init__(self, number: int, **says: Any) -> None:
        self.connection_pool: Any = self
        self.connection_kwargs = {"host": "sentinel", "port": number}
        self.says: Any = says
        self.asked = 0

    def sentinel_masters(self) -> Any:
        self.asked += 1
        says = self.says() if callable(self.says) else self.says
        if isinstance(says, Exception):
            raise says
        return {"mymaster": state(**says)}


def state(port: int = 1, epoch: int = 0, flags: str = "master", others: int = 2) -> dict[str, Any]:
    return {
        "ip": "10.0.0.1",
        "port": port,
        "config-epoch": epoch,
        "flags": flags,
        "is_master": True,
        "is_sdown": "s_down" in flags,
        "is_odown": "o_down" in flags,
        "num-other-sentinels": others,
    }


def manager_of(*sentinels: Any, **keywords: int) -> SentinelManager:
    return SentinelManager(sentinels, **keywords)


def found(manager: SentinelManager) -> int | None:
    """The port of the primary, or ``None``."""
    try:
        return manager.discover_master("mymaster")[1]
    except MasterNotFoundError:
        return None


def told_of(manager: Any, port: int, epoch: int) -> None:
    """From now on its Sentinels name that primary."""
    for client in manager.sentinels:
        client.sentinel_masters = lambda: {
            "mymaster": {**state(port, epoch), "ip": "127.0.0.1"},
        }
