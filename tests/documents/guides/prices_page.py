"""The application of docs/guides/timeouts, in this process."""

from __future__ import annotations

import configparser
import importlib.util
import itertools
import logging
import sys
import time
from typing import Any

from webob import Request

from pyramid_baseplate_redis.interfaces import IRedisContextFactory

from ...support.workers import PROJECT

GUIDE = PROJECT / "docs" / "guides" / "timeouts"
_numbers = itertools.count()


def _loaded(name: str) -> Any:
    """Load the page's module anew, so that each application has its own."""
    specification = importlib.util.spec_from_file_location(name, GUIDE / "page.py")
    assert specification is not None
    assert specification.loader is not None
    sys.modules[name] = module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


class Page:
    """The application of the guide, on a server of the test.

    :param port: where the application believes its cache.
    :param overrides: settings that replace those of the guide; ``None`` leaves one out.
    """

    def __init__(self, port: int, overrides: dict[str, str | None] | None = None) -> None:
        parser = configparser.ConfigParser()
        parser.read(GUIDE / "page.ini")
        settings: dict[str, Any] = {**parser["app:main"], **(overrides or {})}
        settings["cache.url"] = f"redis://127.0.0.1:{port}/0"
        del settings["use"]
        self._module = _loaded(f"page_{next(_numbers)}")
        self.app = self._module.main(
            {}, **{key: value for key, value in settings.items() if value is not None}
        )

    def get(self, path: str = "/prices") -> tuple[float, int, str, str]:
        """Ask for a page.

        :return: milliseconds, the status, the class of the cache's error or ``""``, and its text.
        """
        caught: list[BaseException] = []
        handler = _Catcher(caught)
        logger = logging.getLogger(self._module.__name__)
        logger.addHandler(handler)
        started = time.perf_counter()
        try:
            response = Request.blank(path).get_response(self.app)
            assert response.body  # the server span ends with the body
        finally:
            logger.removeHandler(handler)
        passed = (time.perf_counter() - started) * 1000
        name = type(caught[0]).__name__ if caught else ""
        return passed, response.status_int, name, str(caught[0]) if caught else ""

    def set_database_seconds(self, seconds: float) -> None:
        """Set how long a query of the database takes."""
        self._module.DATABASE_SECONDS = seconds

    @property
    def pool(self) -> Any:
        return self.app.registry.getUtility(IRedisContextFactory, "cache").connection_pool


class _Catcher(logging.Handler):
    def __init__(self, caught: list[BaseException]) -> None:
        super().__init__()
        self._caught = caught

    def emit(self, record: logging.LogRecord) -> None:
        assert isinstance(record.args, tuple)
        (error,) = record.args
        assert isinstance(error, BaseException)
        self._caught.append(error)
