"""A real browser, Debian's Chromium, and the example application for it to look at."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from mirakuru import TCPExecutor
from playwright.sync_api import Browser, Page, sync_playwright

from example_app.links import Click
from pyramid_baseplate_redis import DurableMessageQueue, pool_from_config

from .servers import free_port

CHROMIUM = shutil.which("chromium")
needs_chromium = pytest.mark.skipif(
    CHROMIUM is None, reason="needs chromium (apt-get install chromium)"
)

_APP = Path(__file__).parents[2] / "example_app"
_SECONDS = 60  # machines are busy
_LINKS = 12


@contextmanager
def running_browser() -> Iterator[Browser]:
    """Chromium without a window."""
    assert CHROMIUM is not None, "only where chromium is installed"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM,
            # Whoever is root has no sandbox; nor need the pages of this project.
            args=["--no-sandbox", "--disable-dev-shm-usage"],
            timeout=_SECONDS * 1000,
        )
        yield browser
        browser.close()


@contextmanager
def running_example(directory: Path) -> Iterator[str]:
    """Run ``pserve`` with the example's ``development.ini``; yield the address.

    :param directory: where the copy of that file goes, and what the embedded server writes.
    """
    port = free_port()
    config = directory / "development.ini"
    text = (_APP / "development.ini").read_text()
    config.write_text(text.replace("localhost:6543", f"127.0.0.1:{port}"))
    pserve = Path(sys.executable).with_name("pserve")
    with (directory / "output").open("wb") as output:
        executor = TCPExecutor(
            [str(pserve), str(config)],
            "127.0.0.1",
            port,
            timeout=_SECONDS,
            cwd=str(directory),
            stdout=output,
            stderr=output,
        )
        with executor:
            yield f"http://127.0.0.1:{port}"


def open_page(browser: Browser, **options: Any) -> Page:
    """A page of a new browser.

    :param options: of Playwright's ``new_page``, such as ``color_scheme``.
    """
    page = browser.new_page(**{"viewport": {"width": 1280, "height": 800}, **options})
    page.set_default_timeout(_SECONDS * 1000)
    return page


@contextmanager
def clicks_of(directory: Path) -> Iterator[DurableMessageQueue]:
    """The queue of a running example, where the first failure makes a dead letter.

    :param directory: that of :func:`running_example`.
    """
    pool = pool_from_config({"links.url": f"embedded://{directory}/var"}, "links.")
    yield DurableMessageQueue("clicks", pool, max_attempts=1)
    pool.disconnect()


def remove_toolbar_button(page: Page) -> None:
    """Remove the debug toolbar's button, which lies over the page."""
    page.locator("#pDebug").evaluate_all("buttons => buttons.forEach(each => each.remove())")


PHONE: dict[str, Any] = {
    "viewport": {"width": 390, "height": 844}, "device_scale_factor": 2, "is_mobile": True,
}  # fmt: skip


def bury_click(queue: DurableMessageQueue, body: bytes | str) -> None:
    """Put a message that becomes a dead letter."""
    queue.put(body)
    with suppress(ValueError), queue.receive(timeout=_SECONDS) as message:
        Click.from_message(message.body)
        raise ValueError("the link of this click does not exist")


def make_links(page: Page, address: str) -> None:
    """Shorten a dozen addresses through the example's form, and follow each link once.

    :param address: of the application.
    """
    for number in range(1, _LINKS + 1):
        page.goto(address)
        page.get_by_label("Web address").fill(f"https://example.com/chapter/{number}")
        page.get_by_role("button", name="Shorten").click()
        short = page.locator(".short a").get_attribute("href")
        assert short is not None
        page.request.get(short, max_redirects=0)


def go_to(page: Page, name: str) -> None:
    """Click on a link of the example's navigation."""
    page.get_by_role("navigation", name="Pages").get_by_role("link", name=name).click()


def open_redis_panel(page: Page) -> Page:
    """Click on the toolbar's button and then on its tab ``Redis``; the toolbar's page."""
    with page.expect_popup() as opened:
        page.get_by_title("Show Toolbar").click()
    toolbar = opened.value
    # Its script shows the first panel by itself; a click before that would be lost.
    toolbar.locator(".panelContent:visible").first.wait_for()
    toolbar.get_by_role("link", name="Redis").click()
    toolbar.locator(":focus").blur()
    return toolbar
