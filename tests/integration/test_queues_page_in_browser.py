"""A person at the queues page of the example application, with clicks, keys and a phone."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from pyramid_baseplate_redis import DurableMessageQueue

from ..support.browser import (
    PHONE,
    bury_click,
    clicks_of,
    go_to,
    needs_chromium,
    open_page,
    running_browser,
    running_example,
)

pytestmark = [needs_chromium, pytest.mark.slow("starts a browser")]

expect.set_options(timeout=60_000)  # machines are busy

SCRIPT = "<script>document.title = 'pwned'</script><img src=x onerror=\"document.title='pwned'\">"
PATHS = ("", "/clicks", "/clicks/dead/discard")


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("example")


@pytest.fixture(scope="module")
def browser_and_address(directory: Path) -> Iterator[tuple[Browser, str]]:
    """A browser, and the address of the queues page."""
    with running_example(directory) as address, running_browser() as browser:
        yield browser, f"{address}/queues"


@pytest.fixture
def clicks(
    browser_and_address: tuple[Browser, str], directory: Path
) -> Iterator[DurableMessageQueue]:
    """The example's queue, with three dead letters and a message."""
    with clicks_of(directory) as queue:
        queue.unlink()
        for body in ('{"code": "abc"}', SCRIPT, b"\xff\x00"):
            bury_click(queue, body)
        queue.put(SCRIPT)
        yield queue


@pytest.fixture
def page(browser_and_address: tuple[Browser, str], clicks: DurableMessageQueue) -> Iterator[Page]:
    """The page of the queue."""
    browser, address = browser_and_address
    page = open_page(browser)
    page.goto(address)
    page.get_by_role("link", name="clicks").click()
    yield page
    page.context.close()


def test_page_is_reached_from_the_application(
    browser_and_address: tuple[Browser, str], clicks: DurableMessageQueue
) -> None:
    browser, address = browser_and_address
    page = open_page(browser)
    page.goto(address.removesuffix("/queues"))
    go_to(page, "Queue")
    page.get_by_role("link", name="Queues").click()

    expect(page.get_by_role("row", name="clicks")).to_contain_text("links")
    page.context.close()


def test_dead_letter_is_replayed_with_a_click(page: Page, clicks: DurableMessageQueue) -> None:
    letters = page.get_by_role("table", name="Dead letters")
    letters.get_by_role("button", name="Replay").first.click()

    expect(page.get_by_role("status")).to_have_text("1 dead letter replayed.")
    expect(letters.locator("tbody tr")).to_have_count(2)
    assert clicks.peek()[-1].body == b'{"code": "abc"}'


def test_dead_letter_is_discarded_with_the_keyboard(
    page: Page, clicks: DurableMessageQueue
) -> None:
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
    page.keyboard.press("Enter")
    letters = page.get_by_role("table", name="Dead letters")
    for _ in range(5):  # two links, the first row's link, and its two buttons
        page.keyboard.press("Tab")
    expect(letters.get_by_role("button", name="Discard").first).to_be_focused()
    page.keyboard.press("Enter")

    expect(page.get_by_role("status")).to_have_text("1 dead letter discarded.")
    assert len(clicks.dead_letters()) == 2


def test_all_are_discarded_after_a_question(page: Page, clicks: DurableMessageQueue) -> None:
    page.get_by_role("link", name="Discard all").click()
    expect(page.get_by_role("main")).to_contain_text("They cannot be restored.")
    page.get_by_role("link", name="Cancel").click()
    assert len(clicks.dead_letters()) == 3

    page.get_by_role("link", name="Discard all").click()
    page.get_by_role("button", name="Discard 3 dead letters").click()

    expect(page.get_by_role("status")).to_have_text("3 dead letters discarded.")
    assert clicks.dead_letters() == []


def test_body_is_shown_in_its_formats(page: Page) -> None:
    page.get_by_role("table", name="Dead letters").get_by_role("link").first.click()
    expect(page.locator("pre").last).to_have_text(re.compile(r'^\{\s+"code": "abc"\s+\}$'))

    page.get_by_role("link", name="Hex").click()
    expect(page.locator("pre").last).to_contain_text("7b 22 63 6f 64 65")


def test_script_of_a_message_is_text(page: Page, clicks: DurableMessageQueue) -> None:
    (_, letter, _) = clicks.dead_letters()
    (message,) = clicks.peek()
    for path in (f"/dead/{letter.id}", f"/messages/{message.id}"):
        address = page.url
        page.goto(f"{address}{path}")
        expect(page.locator("pre").last).to_have_text(SCRIPT)
        assert page.locator("main script, main img").count() == 0
        assert page.title() != "pwned"
        page.goto(address)
    assert page.title() == "clicks - Queues"


def test_nothing_is_blocked_by_the_page_s_own_policy(
    browser_and_address: tuple[Browser, str], clicks: DurableMessageQueue
) -> None:
    browser, address = browser_and_address
    page = open_page(browser)
    messages: list[str] = []
    page.on("console", lambda message: messages.append(message.text))
    for path in PATHS:
        page.goto(f"{address}{path}")
    page.context.close()

    assert [message for message in messages if "Content Security Policy" in message] == []


@pytest.mark.parametrize("width", [320, 390])
def test_pages_fit_on_a_phone(
    browser_and_address: tuple[Browser, str], clicks: DurableMessageQueue, width: int
) -> None:
    clicks.put("x" * 500)
    browser, address = browser_and_address
    page = open_page(browser, **{**PHONE, "viewport": {"width": width, "height": 844}})
    for path in (*PATHS, f"/clicks/messages/{clicks.peek()[-1].id}"):
        page.goto(f"{address}{path}")
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        right = "each => each.map(one => one.getBoundingClientRect().right)"
        for edge in page.locator("main button, main .button, main time, main dd").evaluate_all(
            right
        ):
            assert edge <= width
    page.goto(f"{address}/clicks")
    row = page.get_by_role("table", name="Dead letters").get_by_role("row").nth(1)
    cells = row.get_by_role("cell")
    lefts = [cell.bounding_box() for cell in cells.all()]
    assert len({box["x"] for box in lefts if box is not None}) == 1  # below each other
    page.context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_can_be_read_in_light_and_dark(
    browser_and_address: tuple[Browser, str], clicks: DurableMessageQueue, scheme: str
) -> None:
    browser, address = browser_and_address
    page = open_page(browser, color_scheme=scheme)
    page.goto(f"{address}/clicks/dead/discard")

    assert contrast(page, "body", "body") > 7
    assert contrast(page, "button", "button") > 4.5
    assert contrast(page, "main a.button", "body") > 4.5
    page.context.close()


def contrast(page: Page, text: str, background: str) -> float:
    """Return the ratio of contrast as WCAG defines it.

    :param text: selects the element with the text.
    :param background: selects the element with the color behind it.
    """
    color = page.locator(text).first.evaluate("one => getComputedStyle(one).color")
    behind = page.locator(background).first.evaluate("one => getComputedStyle(one).backgroundColor")
    light, dark = sorted((luminance(color), luminance(behind)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def luminance(color: str) -> float:
    """Return the relative luminance of a color such as ``rgb(10, 20, 30)``."""
    parts = [int(part) / 255 for part in re.findall(r"\d+", color)[:3]]
    linear = [
        part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts
    ]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
