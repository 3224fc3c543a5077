"""The pages in a real browser: on a phone, in both color schemes, with the keyboard."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from playwright.sync_api import Browser, Page

from ..support.browser import (
    PHONE,
    needs_chromium,
    open_page,
    remove_toolbar_button,
    running_browser,
    running_example,
)
from ..support.contrast import contrast, texts

pytestmark = [needs_chromium, pytest.mark.slow("starts a browser")]

WORKING = ("/", "/links", "/links/{code}", "/top", "/traces", "/traces/{id}", "/break", "/no/page")
# Pages while Redis is killed.
BROKEN = ("/top", "/break?try=yes", "/traces/{id}")
FOCUSABLE = "a[href], button, summary, input:not([type=hidden])"
SCHEMES: list[Any] = ["light", "dark"]


@dataclass
class Site:
    """The application, which has some links, and a browser."""

    browser: Browser
    address: str
    is_killed: bool = False

    def set_up(self, action: str) -> None:
        """Press a button of the page "Break Redis"."""
        page = open_page(self.browser)
        page.goto(f"{self.address}/break")
        page.locator(f"#{action}").click()
        page.context.close()

    def visit(self, paths: tuple[str, ...], **options: Any) -> Iterator[Page]:
        """Open each of the pages, without the toolbar's button."""
        page = open_page(self.browser, **options)
        page.goto(f"{self.address}/top")
        trace = page.get_by_role("link", name="See its trace").get_attribute("href") or ""
        code = page.locator("tbody code")
        values = {"id": trace.rpartition("/")[2], "code": ""}
        if code.count():
            values["code"] = code.first.inner_text()
        for path in paths:
            page.goto(self.address + path.format(**values))
            remove_toolbar_button(page)
            yield page
        page.context.close()


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with (
        running_example(tmp_path_factory.mktemp("example")) as address,
        running_browser() as browser,
    ):
        page = open_page(browser)
        page.goto(address)
        page.get_by_role("button", name="Make ten sample links").click()
        page.context.close()
        yield Site(browser, address)


@pytest.fixture(params=["working", "killed"])
def pages(request: pytest.FixtureRequest, site: Site) -> Iterator[tuple[str, ...]]:
    """The paths to visit, with a Redis that works and with one that was killed."""
    if request.param == "working":
        yield WORKING
        return
    site.set_up("kill")
    yield BROKEN
    site.set_up("start")


@pytest.mark.parametrize("width", [320, 390])
def test_no_page_scrolls_sideways_on_a_phone(
    site: Site, pages: tuple[str, ...], width: int
) -> None:
    phone = {**PHONE, "viewport": {"width": width, "height": 844}}
    widths = {
        page.url: page.evaluate("document.documentElement.scrollWidth")
        for page in site.visit(pages, **phone)
    }
    assert {url: found for url, found in widths.items() if found > width} == {}
    assert len(widths) == len(pages)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_texts_have_enough_contrast(site: Site, pages: tuple[str, ...], scheme: str) -> None:
    seen = 0
    for page in site.visit(pages, color_scheme=scheme):
        page.locator("summary").evaluate_all("each => each.forEach(one => one.click())")
        found = texts(page)
        assert [text for text in found if text.ratio < 4.5] == [], page.url
        seen += len(found)
    assert seen > 50


@pytest.mark.parametrize("scheme", SCHEMES)
def test_bars_and_edges_have_enough_contrast(site: Site, scheme: str) -> None:
    colors: list[tuple[str, str]] = []
    for page in site.visit(("/traces/{id}", "/"), color_scheme=scheme):
        colors += page.locator(".key rect").evaluate_all(
            "each => each.map(one => [one.classList[0], getComputedStyle(one).fill])"
        )
        colors += page.locator("button, #url").evaluate_all(
            "each => each.map(one => [one.id || one.innerText, getComputedStyle(one).borderColor])"
        )
        background = page.locator("body").evaluate("one => getComputedStyle(one).backgroundColor")
    assert len(colors) == 6
    assert [name for name, color in colors if contrast(color, background) < 3] == []


def test_tab_reaches_everything_and_shows_where_it_is(site: Site, pages: tuple[str, ...]) -> None:
    for page in site.visit(pages):
        shown = page.locator(FOCUSABLE).filter(visible=True)
        shown.evaluate_all("each => each.forEach((one, i) => one.dataset.number = i)")
        count = shown.count()
        reached: dict[str, str] = {}
        for _ in range(count):
            page.keyboard.press("Tab")
            number, outline = page.evaluate(
                """() => [document.activeElement.dataset.number,
                          getComputedStyle(document.activeElement).outline]"""
            )
            reached[number] = outline
        assert list(reached) == [str(number) for number in range(count)], page.url
        assert [outline for outline in reached.values() if " solid 3px" not in outline] == []


def test_skip_link_leads_to_the_content(site: Site) -> None:
    for page in site.visit(("/top",)):
        page.keyboard.press("Tab")
        page.keyboard.press("Enter")
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.closest('main') !== null")


def test_redis_is_killed_and_started_with_the_keyboard(site: Site) -> None:
    for page in site.visit(("/break",)):
        for button, state in (("Kill Redis", "killed"), ("Start Redis again", "running")):
            page.get_by_role("button", name=button).focus()
            page.keyboard.press("Enter")
            page.locator(".states dd").first.filter(has_text=state).wait_for()
