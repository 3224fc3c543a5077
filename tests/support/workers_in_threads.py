"""A worker in a thread of the test's process."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from pyramid_baseplate_redis.worker import work


class Working:
    """A worker in a thread."""

    def __init__(self, registry: Any, handler: Callable[..., Any], **options: Any) -> None:
        self.stop = threading.Event()
        self.code: int | None = None
        self._thread = threading.Thread(
            target=self._run, args=(registry, handler), kwargs=options, daemon=True
        )
        self._thread.start()

    def _run(self, registry: Any, handler: Callable[..., Any], **options: Any) -> None:
        self.code = work(registry, "jobs", handler, stop=self.stop, **options)

    def end(self) -> int | None:
        self.stop.set()
        return self.wait()

    def wait(self) -> int | None:
        self._thread.join(30)
        assert not self._thread.is_alive()
        return self.code
