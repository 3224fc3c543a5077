"""The page "Break Redis": a slow server, a killed one, the circuit breaker, the recovery."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from webtest import TestApp, TestResponse

from example_app import main

from ..support.link_shortener import made_link, wait_until
from ..support.servers import Server

RESET = 0.3  # seconds


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    directory: Path = tmp_path_factory.mktemp("embedded")
    settings = {
        "links.url": f"embedded://{directory}/var",
        "links.breaker_failures": "3",
        "links.breaker_reset": f"{RESET * 1000:.0f} milliseconds",
        "pyramid.includes": "example_app.showcase",
        "queues_page": "true",
    }
    app = main({}, **settings)
    yield app
    if app.registry.faults.is_killed:
        app.registry.faults.start()


@pytest.fixture
def browser(app: Any) -> Iterator[TestApp]:
    yield TestApp(app)
    app.registry.faults.start()
    time.sleep(RESET)
    with_answer = TestApp(app).get("/break?try=yes")
    assert state(with_answer, "Circuit breaker") == "closed"


def press(browser: TestApp, action: str) -> TestResponse:
    """Press a button of the page; the page that follows."""
    page = browser.get("/break")
    (form,) = [form for form in page.forms.values() if f'value="{action}"' in form.text]
    return form.submit("action", status=303).follow()


def state(page: TestResponse, name: str) -> str:
    """What the page says about one of its states."""
    (found,) = [each for each in page.html.select(".states div") if each.dt.text == name]
    return str(found.dd.text).strip()


def errors(page: TestResponse) -> list[tuple[str, str]]:
    """The status and the error of each of the five requests."""
    cells = [row.select("td") for row in page.html.select("main tbody tr")]
    return [(status.text, error.text) for status, error, _ in cells]


class TestKilledServer:
    def test_stays_away_and_the_breaker_opens(self, browser: TestApp) -> None:
        made_link(browser)
        page = press(browser, "kill")
        assert (state(page, "Redis"), state(page, "Circuit breaker")) == ("killed", "closed")
        page = browser.get("/break?try=yes")
        assert errors(page) == [("503", "ConnectionError")] * 3 + [("503", "CircuitOpenError")] * 2
        assert (state(page, "Redis"), state(page, "Circuit breaker")) == ("killed", "open")

    def test_page_that_needs_redis_says_what_happened(self, browser: TestApp) -> None:
        press(browser, "kill")
        page = browser.get("/top", status=503)
        assert "raised ConnectionError" in " ".join(page.html.select_one(".aside").text.split())
        assert "0 round trips, 1 failed" in page.html.select_one(".trips").text
        browser.get("/break?try=yes")
        page = browser.get("/top", status=503)
        assert "lets requests fail at once" in " ".join(page.html.select_one(".aside").text.split())

    def test_its_trace_has_the_error(self, browser: TestApp) -> None:
        press(browser, "kill")
        trace = browser.get("/top", status=503).click("See its trace")
        assert state(trace, "Status") == "503"
        span = trace.html.select(".waterfall .span")[1]
        assert span.select_one(".failed").text == "ConnectionError"

    def test_has_its_data_when_it_is_started_again(self, browser: TestApp) -> None:
        code = made_link(browser)
        press(browser, "kill")
        browser.get("/break?try=yes")
        page = press(browser, "start")
        assert (state(page, "Redis"), state(page, "Circuit breaker")) == ("running", "open")
        time.sleep(RESET)
        assert errors(browser.get("/break?try=yes")) == [("200", "")] * 5
        assert state(browser.get("/break"), "Circuit breaker") == "closed"
        browser.get(f"/links/{code}")

    def test_is_killed_once(self, browser: TestApp) -> None:
        token = browser.get("/").form["csrf_token"].value
        for _ in range(2):
            browser.post("/break", {"csrf_token": token, "action": "kill"}, status=303)
        assert state(browser.get("/break"), "Redis") == "killed"


class TestSlowServer:
    def test_each_round_trip_waits(self, browser: TestApp) -> None:
        code = made_link(browser)
        page = press(browser, "slow")
        assert state(page, "Redis").startswith("slow for ")
        begun = time.monotonic()
        for _ in range(5):
            browser.get(f"/links/{code}")
        assert time.monotonic() - begun > 0.3  # the first one may arrive at a pause's end

    def test_can_be_killed(self, browser: TestApp) -> None:
        press(browser, "slow")
        assert state(press(browser, "kill"), "Redis") == "killed"

    def test_start_ends_it(self, app: Any, browser: TestApp) -> None:
        press(browser, "slow")
        app.registry.faults.start()
        assert state(browser.get("/break"), "Redis") == "running"
        wait_until(lambda: fast(browser), 5)


def fast(browser: TestApp) -> bool:
    begun = time.monotonic()
    browser.get("/top")
    return time.monotonic() - begun < 0.05


class TestHome:
    def test_each_link_leads_to_what_it_names(self, browser: TestApp) -> None:
        links = [link["href"] for link in browser.get("/").html.select(".tour a")]
        assert {link.partition("localhost")[2] for link in links} == {
            "/links", "/top", "/traces", "/queues/clicks", "/break", "/break#slow", "/break#kill",
        }  # fmt: skip
        for link in links:
            page = browser.get(link, status=200)
            anchor = link.partition("#")[2]
            assert not anchor or page.html.find("button", id=anchor)

    def test_needs_no_redis(self, browser: TestApp) -> None:
        press(browser, "kill")
        browser.get("/", status=200)


class TestSafety:
    def test_button_needs_a_token(self, browser: TestApp) -> None:
        browser.post("/break", {"action": "kill"}, status=400)
        assert state(browser.get("/break"), "Redis") == "running"

    def test_a_link_breaks_nothing(self, browser: TestApp) -> None:
        assert state(browser.get("/break?action=kill"), "Redis") == "running"

    def test_unknown_button_is_refused(self, browser: TestApp) -> None:
        token = browser.get("/").form["csrf_token"].value
        browser.post("/break", {"csrf_token": token, "action": "flush"}, status=400)

    def test_server_that_is_not_embedded_cannot_be_broken(self, valkey: Server) -> None:
        settings = {"links.url": valkey.url, "pyramid.includes": "example_app.showcase"}
        browser = TestApp(main({}, **settings))
        assert "Break Redis" not in browser.get("/")
        browser.get("/break", status=404)
        with redis.Redis(port=valkey.port) as client:
            assert client.ping()
