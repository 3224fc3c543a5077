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
        page.set_viewport_size({"width": 1280, "height": 880})
        page.screenshot(path=IMAGES / "example_app.png")
        page.set_viewport_size({"width": 1280, "height": 800})
        panel = open_redis_panel(page)
        panel.set_viewport_size({"width": 1280, "height": 970})
        panel.screenshot(path=IMAGES / "debugtoolbar.png")
        picture_queues_page(browser, address, Path(directory))
        picture_example(browser, address)


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


def picture_example(browser: Browser, address: str) -> None:
    """Write the pictures of the example's pages, at last those with a Redis that was killed."""
    page = open_page(browser)
    for path in ("/", "/links", "/top"):
        page.goto(address + path)
    code = page.locator("tbody code").first.inner_text()
    page.request.get(f"{address}/{code}", max_redirects=0)
    page.goto(f"{address}/traces")
    trace = page.get_by_role("link", name=f"GET /{code}").first.get_attribute("href") or ""
    picture_page(browser, "trace_list", f"{address}/traces")
    picture_page(browser, "trace", trace)
    picture_page(browser, "example_app_home", address, 1130)
    page.goto(f"{address}/break")
    page.get_by_role("button", name="Kill Redis").click()
    picture_page(browser, "break", f"{address}/break?try=yes")
    picture_page(browser, "example_app_503", f"{address}/top")
    page.context.close()


def picture_page(browser: Browser, name: str, address: str, height: int = 750) -> None:
    """Write two pictures of the top of a page: on a desktop, and on a phone in the dark.

    :param height: of the desktop's picture.
    """
    desktop = {"viewport": {"width": 900, "height": height}}
    phone = {**PHONE, "device_scale_factor": 1.5, "color_scheme": "dark"}  # a file below 150 kB
    for suffix, options in ("", desktop), ("_phone", phone):
        page = open_page(browser, **options)
        page.goto(address)
        remove_toolbar_button(page)
        page.screenshot(path=IMAGES / f"{name}{suffix}.png")
        page.context.close()


if __name__ == "__main__":
    main()
