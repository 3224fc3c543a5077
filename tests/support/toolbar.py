"""The debug toolbar of an application, and its Redis panel."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from pyramid.request import Request
from webtest import TestApp

View = Callable[[Request], Any]
PANEL = "pyramid_baseplate_redis.debugtoolbar"


class Toolbar:
    """An application with the toolbar, and what its panel shows of the last request."""

    def __init__(self, app: TestApp) -> None:
        self.app = app

    def get(self, path: str = "/", **options: Any) -> Any:
        return self.app.get(path, **options)

    @property
    def page(self) -> Any:
        return self.app.get("/_debug_toolbar/").html

    @property
    def tab(self) -> Any:
        return self.page.select_one("#pDebugPanel-redis")

    @property
    def panel(self) -> Any:
        return self.page.select_one("#pDebugPanel-redis-content")

    @property
    def text(self) -> str:
        return words(self.panel)

    @property
    def share(self) -> str:
        """The part at the top, which says how much of the request was Redis."""
        return words(self.panel.select_one("#redis-share"))

    @property
    def share_in_ms(self) -> tuple[float, float]:
        """The milliseconds of Redis, and those of the request."""
        found = re.search(r": ([\d.]+) ms of ([\d.]+) ms\.", self.share)
        assert found is not None, self.share
        return float(found[1]), float(found[2])

    @property
    def badge_reason(self) -> str | None:
        reason = self.panel.select_one("#redis-badge")
        return None if reason is None else words(reason)

    @property
    def rows(self) -> list[Any]:
        return list(self.panel.select("#redis-operations > tbody > tr"))

    @property
    def commands(self) -> list[str]:
        """The operations, without their times: ``GET a``, ``pipeline_load 2 commands GET a``."""
        return [words(row.select("td")[-5]) for row in self.rows]

    @property
    def totals(self) -> list[list[str]]:
        rows = self.panel.select("#redis-totals > tbody > tr")
        return [[words(cell) for cell in row.select("th, td")] for row in rows]

    @property
    def advice(self) -> list[str]:
        return [words(item) for item in self.panel.select("#redis-advice li")]


def words(element: Any) -> str:
    return re.sub(r"\s+([:])", r"\1", " ".join(element.get_text(" ").split()))
