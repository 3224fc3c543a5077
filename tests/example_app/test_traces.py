"""The showcase's traces: what is kept, what the pages show, and each page's own round trips."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace import StatusCode, use_span
from pyramid.paster import get_appsettings
from webtest import TestApp, TestResponse

from example_app import main
from example_app.showcase.round_trips import duration
from example_app.showcase.traces import Trace, TraceStore
from example_app.showcase.waterfall import rows
from pyramid_baseplate_redis.testing import for_tests

from ..support.link_shortener import APP, made_link

pytest_plugins = ["pyramid_baseplate_redis.testing.fixtures"]


@pytest.fixture(scope="module")
def app() -> Any:
    settings = {
        "links.url": "redis://localhost:6379/0",
        "pyramid.includes": "example_app.showcase",
        "queues_page": "true",
    }
    return main({}, **for_tests(settings))


@pytest.fixture
def provider() -> Iterator[TracerProvider]:
    provider = TracerProvider()
    yield provider
    provider.shutdown()


def text(element: Any) -> str:
    return " ".join(element.text.split())


def trips(page: TestResponse) -> str:
    """What the page says about its own round trips."""
    return text(page.html.select_one(".trips strong"))


class TestRoundTripsOfAPage:
    def test_page_without_redis_has_none(self, browser: TestApp) -> None:
        assert trips(browser.get("/")) == "Redis for this page: no round trip"

    def test_pipeline_is_one(self, browser: TestApp) -> None:
        assert trips(browser.get(f"/links/{made_link(browser)}")).startswith(
            "Redis for this page: 1 round trip, "
        )

    def test_each_command_is_one(self, browser: TestApp) -> None:
        browser.post("/samples", {"csrf_token": browser.get("/").form["csrf_token"].value})
        assert trips(browser.get("/links")).startswith("Redis for this page: 21 round trips, ")
        top = browser.get("/top")
        assert trips(top).startswith("Redis for this page: 2 round trips, ")
        assert "5 clicks wait for the worker" in top

    def test_time_has_a_unit(self) -> None:
        shown = [duration(milliseconds).split() for milliseconds in (0.844, 12.3, 5012)]
        assert shown == [["0.84", "ms"], ["12", "ms"], ["5.0", "s"]]

    def test_page_leads_to_its_trace(self, browser: TestApp) -> None:
        trace = browser.get("/top").click("See its trace")
        assert trace.html.select_one("h1").text == "GET /top"


class TestPageOfTraces:
    def test_latest_is_the_first(self, browser: TestApp) -> None:
        browser.get("/links")
        browser.get("/top")
        traces = browser.get("/traces").html.select(".traces a")
        assert [each.text for each in traces[:2]] == ["GET /top", "GET /links"]

    def test_says_how_long_each_request_took(self, browser: TestApp) -> None:
        browser.get("/top")
        first = browser.get("/traces").html.select_one(".traces .times")
        number = r"[\d.]+ m?s"
        assert re.fullmatch(rf"1 round trip, {number} of {number}", text(first))

    def test_itself_and_static_files_are_not_there(self, browser: TestApp) -> None:
        browser.get("/static/theme.css")
        browser.get(browser.get("/queues").html.select_one("link[rel=stylesheet]")["href"])
        browser.get("/traces")
        page = browser.get("/traces").html.select_one(".traces").text
        assert "/traces" not in page
        assert "style" not in page
        assert "/static" not in page

    def test_trace_is_a_tree(self, browser: TestApp) -> None:
        code = made_link(browser)
        browser.get(f"/{code}")
        page = browser.get("/traces").click(f"/{code}").html
        spans = [(text(each), each["class"][1]) for each in page.select(".waterfall .span")]
        assert spans == [
            ("GET /{code}", "depth0"),
            ("links.GET", "depth1"),
            ("links.pipeline_count_click", "depth1"),
            ("send clicks", "depth1"),
            ("links.XADD", "depth2"),
        ]

    def test_page_of_a_trace_has_no_link_to_its_own_trace(self, browser: TestApp) -> None:
        page = browser.get("/top").click("See its trace")
        assert "See its trace" not in page
        assert "See its trace" not in page.click("All traces")

    def test_unknown_trace_is_not_found(self, browser: TestApp) -> None:
        browser.get(f"/traces/{'0' * 32}", status=404)
        browser.get("/traces/x", status=404)


class TestStore:
    def test_oldest_trace_makes_room(self, provider: TracerProvider) -> None:
        store = TraceStore(most_traces=2)
        provider.add_span_processor(store)
        for name in ("first", "second", "third"):
            provider.get_tracer("test").start_span(name).end()
        assert [trace.root.name for trace in store.latest() if trace.root] == ["third", "second"]

    def test_spans_beyond_the_limit_are_counted(self, provider: TracerProvider) -> None:
        store = TraceStore(most_spans=2)
        provider.add_span_processor(store)
        tracer = provider.get_tracer("test")
        with tracer.start_as_current_span("root"):
            for _ in range(5):
                tracer.start_span("child").end()
        (trace,) = store.latest()
        assert (len(trace.spans), trace.left_out) == (2, 3)

    def test_quiet_request_is_kept_if_it_failed(self, provider: TracerProvider) -> None:
        store = TraceStore(("/quiet",))
        provider.add_span_processor(store)
        for status in (StatusCode.UNSET, StatusCode.ERROR):
            span = provider.get_tracer("test").start_span("GET", attributes={"url.path": "/quiet"})
            span.set_status(status)
            span.end()
        assert len(store.latest()) == 1

    def test_bars_begin_and_end_with_their_spans(self, provider: TracerProvider) -> None:
        store = TraceStore()
        provider.add_span_processor(store)
        tracer = provider.get_tracer("test")
        root = tracer.start_span("root", start_time=1_000)
        with use_span(root):
            tracer.start_span("child", start_time=1_250).end(1_500)
        root.end(2_000)
        bars = [(row.name, row.start, row.width) for row in rows(store.latest()[0])]
        assert bars == [("root", 0.0, 100.0), ("child", 25.0, 25.0)]

    def test_trace_without_spans_has_no_rows(self) -> None:
        assert rows(Trace("0" * 32)) == []


def test_production_has_no_showcase() -> None:
    settings = get_appsettings(str(APP / "production.ini"))
    assert "showcase" not in settings.get("pyramid.includes", "")
    assert "queues_page" not in settings


def test_without_the_showcase_its_pages_are_not_there(empty_redis: None) -> None:
    browser = TestApp(main({}, **for_tests({"links.url": "redis://localhost:6379/0"})))
    home = browser.get("/")
    for name in ("Traces", "Break Redis", "round trip"):
        assert name not in home
    for path in ("/traces", "/break"):
        browser.get(path, status=404)
    token = home.form["csrf_token"].value
    browser.post("/samples", {"csrf_token": token}, status=404)
    browser.post("/break", {"csrf_token": token, "action": "kill"}, status=404)
