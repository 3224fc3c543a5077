"""The panel in a real browser: its contrast, and its width in a narrow window."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from urllib.parse import urlsplit

import pytest
import redis
from playwright.sync_api import Page, Route
from pyramid.request import Request
from pyramid.response import Response

from ..support.browser import needs_chromium, open_page, running_browser
from ..support.servers import Server, wait_until
from ..support.toolbar import Toolbar

pytestmark = [needs_chromium, pytest.mark.slow("starts a browser")]

# The contrast of each visible text with its background, and of each bar with its track, as pairs
# of a description and a ratio (WCAG 2, "contrast ratio").
_CONTRASTS = """panel => {
    const numbers = color => color.match(/[\\d.]+/g).map(Number)
    const luminance = color => {
        const [r, g, b] = numbers(color).map(value => value / 255).map(
            value => value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4)
        return 0.2126 * r + 0.7152 * g + 0.0722 * b
    }
    const ratio = (one, other) => {
        const [dark, light] = [luminance(one), luminance(other)].sort((a, b) => a - b)
        return (light + 0.05) / (dark + 0.05)
    }
    const isClear = color => numbers(color)[3] === 0
    const background = element => {
        while (element && isClear(getComputedStyle(element).backgroundColor))
            element = element.parentElement
        return element ? getComputedStyle(element).backgroundColor : 'rgb(255, 255, 255)'
    }
    const found = []
    const texts = [...panel.querySelectorAll('*')]
    const tab = document.querySelector('#pDebugPanel-redis .badge')
    for (const element of [tab, ...texts]) {
        const isText = [...element.childNodes].some(
            node => node.nodeType === Node.TEXT_NODE && node.data.trim())
        if (isText && element.offsetParent) {
            const text = element.textContent.trim().slice(0, 40)
            found.push(
                ['text', text, ratio(getComputedStyle(element).color, background(element))])
        }
    }
    for (const bar of panel.querySelectorAll('.progress-bar')) {
        const style = getComputedStyle(bar)
        const stripes = style.backgroundImage.match(/rgba?\\([^)]*\\)/g) || []
        const colors = [style.backgroundColor, ...stripes]
        const track = background(bar.parentElement)
        for (const color of colors.filter(color => !isClear(color)))
            found.push(['bar', bar.className, ratio(color, track)])
    }
    return found
}"""


def everything(request: Request) -> Response:
    """Use two clients, so that each mark, color and text of the panel is shown."""
    client = request.foo
    client.set("a", "x" * 200_000)
    client.get("a")
    for number in range(6):
        client.get(f"key:{number}")
    with suppress(redis.ResponseError):
        client.lpush("a", 1)
    with request.bar.pipeline("load_page") as pipeline:
        pipeline.get("b").hgetall("c").execute()
    client.client_pause(200)
    client.get("b")
    pool = client.connection_pool
    held = pool.get_connection()
    thread = threading.Thread(target=client.get, args=("b",))
    thread.start()
    wait_until(lambda: pool.stats.waiting)
    thread.join(0.15)
    pool.release(held)
    thread.join()
    return Response("<body></body>")


@pytest.fixture
def panel(serve: Callable[..., Toolbar], valkey: Server) -> Iterator[Page]:
    """The toolbar's page with the panel of a request that has everything."""
    toolbar = serve(everything, foo__max_connections="1", bar__url=valkey.url)
    toolbar.get()

    def answer(route: Route) -> None:
        path = urlsplit(route.request.url).path
        if path.endswith("/sse"):  # the page asks for it again and again
            route.abort()
            return
        response = toolbar.get(path, expect_errors=True)
        route.fulfill(
            status=response.status_int, content_type=response.content_type, body=response.body
        )

    with running_browser() as browser:
        page = open_page(browser)
        page.route("**/*", answer)
        page.goto("http://localhost/_debug_toolbar/")
        page.locator(".panelContent:visible").first.wait_for()
        page.get_by_role("link", name="Redis").click()
        page.locator("#redis-operations").wait_for()
        yield page


def test_is_readable_and_fits_a_narrow_window(panel: Page) -> None:
    content = panel.locator("#pDebugPanel-redis-content")
    contrasts = content.evaluate(_CONTRASTS)

    kinds = {what for kind, what, _ in contrasts if kind == "bar"}
    assert {what.rpartition("-")[2] for what in kinds} >= {"info", "warning", "danger"}
    texts = {what for kind, what, _ in contrasts if kind == "text"}
    assert texts >= {"many", "slow", "waiting", "large", "Called from", "Suggestions", "Legend"}
    assert [found for found in contrasts if found[2] < {"text": 4.5, "bar": 3}[found[0]]] == []

    panel.set_viewport_size({"width": 800, "height": 800})
    assert panel.evaluate("document.documentElement.scrollWidth") <= 800
    wide = content.locator("#redis-share, #redis-advice, #redis-legend, #redis-operations *")
    assert (
        wide.evaluate_all(
            "(all, right) => all.filter(each => each.getBoundingClientRect().right > right + 1)"
            ".map(each => each.outerHTML)",
            content.bounding_box()["x"] + content.bounding_box()["width"],  # type: ignore[index]
        )
        == []
    )
