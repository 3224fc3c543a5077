"""The MONITOR command with a span. The commands that it shows have none."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from redis.client import Monitor

if TYPE_CHECKING:
    from .base import MonitoredClient


class MonitoredMonitor(Monitor):
    """redis-py's :class:`~redis.client.Monitor`, with a span for the MONITOR command itself."""

    def __init__(
        self,
        client: MonitoredClient[Any],
        connection_pool: Any = None,
    ) -> None:
        self._client = client
        super().__init__(connection_pool or client.connection_pool)

    def __enter__(self) -> Monitor:
        return cast(Monitor, self._client.run_as_operation(("MONITOR",), super().__enter__))

    def __exit__(self, *args: Any) -> None:
        self.close()

    def close(self) -> None:
        """Stop monitoring and return the connection to the pool."""
        connection, self.connection = self.connection, None
        if connection is not None:
            connection.disconnect()
            self.connection_pool.release(connection)
