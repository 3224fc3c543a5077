"""A person at the example application: from its page to the toolbar's Redis panel, with clicks."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect

from ..support.browser import (
    go_to,
    make_links,
    needs_chromium,
    open_page,
    open_redis_panel,
    running_browser,
    running_example,
)

pytestmark = [needs_chromium, pytest.mark.slow("starts a browser")]

expect.set_options(timeout=60_000)  # machines are busy


@pytest.fixture(scope="module")
def browser_and_address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Browser, str]]:
    """A browser, and the address of the application, which has a dozen links."""
    with (
        running_example(tmp_path_factory.mktemp("example")) as address,
        running_browser() as browser,
    ):
        make_links(open_page(browser), address)
        yield browser, address


@pytest.fixture
def page(browser_and_address: tuple[Browser, str]) -> Iterator[Page]:
    """The application's page that asks for each link by itself."""
    browser, address = browser_and_address
    page = open_page(browser)
    page.goto(address)
    go_to(page, "Links")
    yield page
    page.context.close()


@pytest.fixture
def panel(page: Page) -> Page:
    """The toolbar's page, where the panel has been chosen."""
    return open_redis_panel(page)


def test_page_lists_the_links(page: Page) -> None:
    expect(page.locator("main tbody tr")).to_have_count(12)


def test_tab_tells_how_many_commands_there_were(panel: Page) -> None:
    expect(panel.locator("#pDebugPanel-redis .badge")).to_have_text(
        re.compile(r"^25 in [\d.]+ ms$")
    )


def test_panel_is_seen_and_no_other(panel: Page) -> None:
    expect(panel.locator(".panelContent:visible")).to_have_count(1)
    expect(panel.get_by_role("heading", name="Suggestions")).to_be_visible()


def test_advice_is_seen(panel: Page) -> None:
    advice = panel.locator("#redis-advice li")

    for pattern in (
        r"12 GETs from\s+links\.py:\d+ in find_link:\s+use MGET or a named pipeline",
        r"12 ZSCOREs from\s+links\.py:\d+ in links_one_by_one:\s+use ZMSCORE or",
    ):
        expect(advice.filter(has_text=re.compile(pattern))).to_be_visible()
    expect(advice).to_have_count(2)


def test_bars_of_the_time_line_go_from_left_to_right(panel: Page) -> None:
    bars = panel.locator("#redis-operations .progress-bar-info")
    boxes = [bar.bounding_box() for bar in bars.all()]

    lefts = [box["x"] for box in boxes if box is not None]
    assert len(lefts) == 25
    assert lefts == sorted(lefts)
    assert lefts[0] < lefts[-1]


def test_bar_at_the_very_end_of_the_request_is_seen(panel: Page) -> None:
    last = panel.locator("#redis-operations .progress").last
    last.locator(".progress-bar").first.evaluate(
        "bar => { bar.style.transition = 'none'; bar.style.width = '100%' }"
    )

    track, bar = last.bounding_box(), last.locator(".progress-bar-info").bounding_box()

    assert track is not None
    assert bar is not None
    assert bar["width"] > 0
    assert bar["y"] < track["y"] + track["height"]


def test_click_on_a_heading_sorts_the_operations(panel: Page) -> None:
    reply = panel.locator("#redis-operations tbody tr:first-child td:nth-child(4)")
    panel.get_by_role("columnheader", name="Reply").click()
    expect(reply).to_have_text("3 bytes")

    panel.get_by_role("columnheader", name="Reply").click()
    expect(reply).to_have_text("72 bytes")


def test_panel_of_another_request_is_reached_through_the_history(page: Page) -> None:
    code = page.locator("tbody a").first.inner_text()
    page.request.get(page.url.replace("/links", f"/{code}"), max_redirects=0)
    page.reload()
    panel = open_redis_panel(page)

    panel.locator("#requests li", has_text=f"/{code}").first.click()

    expect(panel.locator("#redis-operations details summary")).to_have_text(
        re.compile(r"pipeline_count_click\s+2 commands")
    )
    expect(panel.locator("#redis-operations")).to_be_visible()


def test_page_without_redis_has_no_panel(page: Page) -> None:
    page.get_by_role("link", name="Shorten").click()
    with page.expect_popup() as opened:
        page.get_by_title("Show Toolbar").click()

    expect(opened.value.locator("#pDebugPanel-redis")).to_have_class(re.compile("disabled"))
