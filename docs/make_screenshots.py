"""Make the pictures of the documentation: the example application and its debug toolbar.

python -m docs.make_screenshots
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

from playwright.sync_api import Browser

from tests.support.browser import (
    PHONE,
    bury_click,
    clicks_of,
    go_to,
    make_links,
    open_page,
    open_redis_panel,
    remove_toolbar_button,
    running_browser,
    running_example,
)

IMAGES = Path(__file__).parent / "images"


def main() -> None:
    """Write all pictures."""
    IMAGES.mkdir(exist_ok=True)
    with (
        tempfile.TemporaryDirectory() as directory,
        running_example(Path(directory)) as address,
        running_browser() as browser,
    ):
        page = open_page(browser)
        make_links(page, address)
        go_to(page, "Links")
        page.screenshot(path=IMAGES / "example_app.png")
        open_redis_panel(page).screenshot(path=IMAGES / "debugtoolbar.png")
        picture_queues_page(browser, address, Path(directory))


def picture_queues_page(browser: Browser, address: str, directory: Path) -> None:
    """Write the pictures of the queues page, with clicks on links that do not exist."""
    with clicks_of(directory) as clicks:
        while clicks.stats().length:  # those that were followed by make_links()
            clicks.get(timeout=0)
        for code in ("k7wQ2p", "Zr4mXa", "b9TnEc"):
            bury_click(clicks, json.dumps({"code": code, "at": "2026-11-23T10:20:30+00:00"}))
        for code in ("h3Jv8s", "Wy6dRf"):
            clicks.put(json.dumps({"code": code, "at": "2026-11-23T10:20:30+00:00"}))
        (letter, *_) = clicks.dead_letters()
    for name, path, options in (
        ("queues", "/queues/clicks", {"viewport": {"width": 1100, "height": 900}}),
        ("queues_phone", f"/queues/clicks/dead/{letter.id}", {**PHONE, "color_scheme": "dark"}),
    ):
        page = open_page(browser, **options)
        page.goto(f"{address}{path}")
        remove_toolbar_button(page)
        page.screenshot(path=IMAGES / f"{name}.png")
        page.context.close()


if __name__ == "__main__":
    main()
