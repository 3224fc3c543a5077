"""One server that is killed and restarted, and is empty then."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ....support.servers import running_server
from .base import Events, Weather


class StandaloneWeather(Weather):
    """The weather of one server."""

    @contextlib.contextmanager
    def servers(self, directory: Path) -> Iterator[dict[str, Any]]:
        """Run one server."""
        with running_server("valkey", directory) as server:
            self.server = server
            self.nodes = [server]
            yield {}

    def events(self) -> Events:
        """Return the short faults, and the restart, which takes milliseconds."""
        return {**super().events(), self.restart: 4}

    def restart(self) -> None:
        with self.losing():
            self.server.kill()
            self.wait(0, 0.3)
            self.server.restart()
