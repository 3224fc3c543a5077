"""The example app: the link shortener, its worker, its printed spans, and both as processes."""

from __future__ import annotations

import io
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timezone
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urlencode
from urllib.request import (
    HTTPCookieProcessor,
    HTTPRedirectHandler,
    ProxyHandler,
    build_opener,
)

import pytest
import redis
from opentelemetry import trace
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import Span, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.trace import NonRecordingSpan, SpanContext, StatusCode, TraceFlags
from psutil import process_iter
from pyramid.exceptions import ConfigurationError
from pyramid.paster import get_appsettings
from webtest import TestApp, TestResponse

from example_app import main
from example_app.links import MOST_CHARACTERS, Click
from example_app.metrics import pool_lines
from example_app.tracing import SpanTreePrinter
from example_app.worker import handle
from pyramid_baseplate_redis import pool_from_config, server_context
from pyramid_baseplate_redis.testing import dummy_request, for_tests
from pyramid_baseplate_redis.testing.application import plain_client
from pyramid_baseplate_redis.testing.spans import RecordedSpans
from pyramid_baseplate_redis.worker import work

from ..support.servers import Server, attributes, free_port, open_sockets_to, running_server

POOL = "db.client.connection.pool"
APP = Path(__file__).parents[2] / "example_app"
ADDRESS = "https://example.com/a/long/way"
PREDIS_WORK = [str(Path(sys.executable).with_name("predis")), "work"]
WORKER = ["clicks", "example_app.worker:handle"]
CLICK = b'{"code": "abc234", "at": "2026-11-23T10:20:30+00:00"}'


pytest_plugins = ["pyramid_baseplate_redis.testing.fixtures"]


@pytest.fixture(scope="module")
def app() -> Any:
    return main({}, **for_tests({"links.url": "redis://localhost:6379/0"}))


@pytest.fixture
def browser(app: Any, empty_redis: None) -> TestApp:
    return TestApp(app)


@pytest.fixture
def client(app: Any, empty_redis: None) -> Iterator[redis.Redis]:
    """A plain client, to see what the app stored."""
    with plain_client(app, "links", decode_responses=True) as plain:
        yield plain


@pytest.fixture
def outside(valkey: Server) -> Iterator[redis.Redis]:
    """The same for an app or a worker that is a process of its own."""
    with redis.Redis(port=valkey.port, decode_responses=True) as plain:
        yield plain


def submit(browser: TestApp, address: str, status: int = 303) -> TestResponse:
    form = browser.get("/").form
    form["url"] = address
    return form.submit(status=status)


def made_link(browser: TestApp, address: str = ADDRESS) -> str:
    """Make a link through the form and return its code."""
    return str(submit(browser, address).location.rpartition("/")[2])


def wait_until(true: Callable[[], object], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


class TestMakingALink:
    def test_leads_to_a_page_with_the_short_address(self, browser: TestApp) -> None:
        page = submit(browser, ADDRESS).follow()
        code = page.request.path.rpartition("/")[2]
        assert page.html.select_one(".short a")["href"] == f"http://localhost/{code}"

    def test_page_of_a_link_shows_where_it_leads(self, browser: TestApp) -> None:
        assert submit(browser, ADDRESS).follow().html.select_one("dd.address").text == ADDRESS

    def test_two_links_have_two_codes(self, browser: TestApp) -> None:
        assert made_link(browser) != made_link(browser)

    @pytest.mark.parametrize(
        ("address", "error"),
        [
            ("", "Write an address that starts with http:// or https://."),
            ("example.com/a", "Write an address that starts with http:// or https://."),
            ("//example.com/a", "Write an address that starts with http:// or https://."),
            ("ftp://example.com/", "Write an address that starts with http:// or https://."),
            ("javascript:alert(1)", "Write an address that starts with http:// or https://."),
            ("data:text/html,x", "Write an address that starts with http:// or https://."),
            ("http://", "That is not a web address."),
            ("http:///path", "That is not a web address."),
            ("http://a b/", "That is not a web address."),
            ("http://a..b/", "That is not a web address."),
            ("http://[::1/", "That is not a web address."),
            ("http://example.com:99999/", "That is not a web address."),
            ("http://example.com:x/", "That is not a web address."),
            (
                "https://user:secret@example.com/",
                "An address with a user name or a password can't be shortened.",
            ),
            (
                "https://example.com/" + "a" * MOST_CHARACTERS,
                "That address is too long; 2000 characters are allowed.",
            ),
        ],
    )
    def test_malformed_address_is_refused_with_the_reason(
        self, browser: TestApp, client: redis.Redis, address: str, error: str
    ) -> None:
        page = submit(browser, address, status=400)
        assert page.html.select_one("[role=alert]").text == error
        assert client.keys() == []

    @pytest.mark.parametrize(
        ("address", "kept"),
        [
            ("http://example.com", "http://example.com"),
            ("  https://example.com/x  ", "https://example.com/x"),
            ("HTTPS://Example.COM/Path", "https://example.com/Path"),
            ("http://example.com:8080/?a=1&b[]=%20#c", "http://example.com:8080/?a=1&b[]=%20#c"),
            ("http://[::1]:6543/x", "http://[::1]:6543/x"),
            ("https://münchen.de/straße", "https://xn--mnchen-3ya.de/stra%C3%9Fe"),
            ('https://example.com/"><b>', "https://example.com/%22%3E%3Cb%3E"),
            ("https://example.com/a b?c d", "https://example.com/a%20b?c%20d"),
            ("https://example.com/\r\nSet-Cookie:a=b", "https://example.com/Set-Cookie:a=b"),
        ],
    )
    def test_link_leads_to_the_address_in_ascii(
        self, browser: TestApp, address: str, kept: str
    ) -> None:
        # Not through the form, which WebTest fills in as a browser does: without line breaks.
        token = browser.get("/").form["csrf_token"].value
        made = browser.post("/", {"csrf_token": token, "url": address}, status=303)
        assert browser.get(f"/{made.location.rpartition('/')[2]}", status=302).location == kept

    def test_refused_address_can_be_corrected(self, browser: TestApp) -> None:
        assert submit(browser, "example.com/a", status=400).form["url"].value == "example.com/a"

    def test_refused_address_is_escaped(self, browser: TestApp) -> None:
        assert '"><script>' not in submit(browser, '"><script>', status=400).text

    def test_file_in_place_of_an_address_is_refused(self, browser: TestApp) -> None:
        token = browser.get("/").form["csrf_token"].value
        files = [("url", "address.txt", b"https://example.com/")]
        browser.post("/", {"csrf_token": token}, upload_files=files, status=400)

    def test_form_of_another_site_is_refused(self, browser: TestApp, client: redis.Redis) -> None:
        page = browser.post("/", {"url": ADDRESS}, status=400)
        assert "That form is no longer valid" in page.html.select_one("[role=alert]").text
        assert client.keys() == []


class TestFollowingALink:
    def test_redirects_to_the_address(self, browser: TestApp) -> None:
        assert browser.get(f"/{made_link(browser)}", status=302).location == ADDRESS

    def test_is_counted(self, browser: TestApp) -> None:
        code = made_link(browser)
        for _ in range(2):
            browser.get(f"/{code}")
        assert "2 times" in browser.get(f"/links/{code}").html.select("dd")[1].text

    def test_puts_the_click_on_the_queue(self, app: Any, browser: TestApp) -> None:
        code = made_link(browser)
        browser.get(f"/{code}")
        with dummy_request(app) as request:
            click = Click.from_message(request.clicks.get(timeout=0))
        assert click.code == code
        assert abs((datetime.now(timezone.utc) - click.at).total_seconds()) < 60

    def test_unknown_code_is_not_found(self, browser: TestApp) -> None:
        page = browser.get("/unknown", status=404)
        assert page.html.select_one("main .address").text == "/unknown"

    def test_unknown_code_is_not_counted(self, browser: TestApp, client: redis.Redis) -> None:
        browser.get("/unknown", status=404)
        assert client.keys() == []

    def test_spans_are_the_request_and_its_commands(
        self, browser: TestApp, recorded_spans: RecordedSpans
    ) -> None:
        code = made_link(browser)
        recorded_spans.clear()
        browser.get(f"/{code}")
        assert recorded_spans.tree() == [
            ("GET /{code}", None),
            ("links.GET", "GET /{code}"),
            ("links.pipeline_count_click", "GET /{code}"),
            ("send clicks", "GET /{code}"),
            ("links.XADD", "send clicks"),
        ]

    def test_span_of_an_unknown_code_says_404(
        self, browser: TestApp, recorded_spans: RecordedSpans
    ) -> None:
        browser.get("/unknown", status=404)
        assert attributes(recorded_spans.one("GET /{code}"))["http.response.status_code"] == 404


class TestPageOfALink:
    def test_unknown_link_is_not_found(self, browser: TestApp) -> None:
        browser.get("/links/unknown", status=404)

    def test_looking_is_not_following(self, browser: TestApp) -> None:
        code = made_link(browser)
        browser.get(f"/links/{code}")
        assert "0 times" in browser.get(f"/links/{code}").html.select("dd")[1].text


class TestHealth:
    def test_a_readiness_probe_is_told_of_the_client(self, valkey: Server) -> None:
        app = main({}, **{"links.url": valkey.url, "links.health_timeout": "20 seconds"})
        answer = TestApp(app).get("/health/redis").json
        assert {name: each["status"] for name, each in answer["clients"].items()} == {"links": "ok"}


class TestWithoutRedis:
    @pytest.fixture
    def browser(self) -> TestApp:
        return TestApp(main({}, **{"links.url": f"redis://127.0.0.1:{free_port()}"}))

    def test_the_visitor_is_asked_to_try_again(self, browser: TestApp) -> None:
        answer = browser.get("/abc234", status=503)
        assert "Try again soon" in answer
        assert answer.headers["Retry-After"] == "5"

    def test_the_log_tells_what_failed(
        self, browser: TestApp, caplog: pytest.LogCaptureFixture
    ) -> None:
        browser.get("/abc234", status=503)
        (message,) = [record.getMessage() for record in caplog.records]
        assert message.startswith("GET /abc234: ConnectionError: links: Error 111 connecting to")

    def test_what_needs_no_redis_works(self, browser: TestApp) -> None:
        browser.get("/")

    def test_a_readiness_probe_is_told_so(self, browser: TestApp) -> None:
        assert browser.get("/health/redis", status=503).json["status"] == "failing"


class TestMetrics:
    def test_a_pool_is_one_line(self) -> None:
        reader = InMemoryMetricReader()
        meter = MeterProvider([reader]).get_meter("test")
        count = meter.create_up_down_counter("db.client.connection.count")
        for state, number in (("idle", 2), ("used", 1)):
            attributes = {f"{POOL}.name": "links", "db.client.connection.state": state}
            count.add(number, attributes)
        meter.create_counter("db.client.connection.timeouts").add(3, {f"{POOL}.name": "links"})
        data = reader.get_metrics_data()
        assert data is not None
        assert pool_lines(data) == "pool links  idle 2  used 1  timeouts 3\n"

    def test_unknown_place_for_metrics_is_an_error(self) -> None:
        with pytest.raises(ConfigurationError, match="metrics: 'nowhere' is not one of"):
            main({}, **{"links.url": "embedded://", "metrics": "nowhere"})


class TestOneByOne:
    def test_page_is_there_before_the_first_link(self, browser: TestApp) -> None:
        assert "Nobody has followed a link yet" in browser.get("/links").text

    def test_page_has_each_link_that_was_followed(self, browser: TestApp) -> None:
        made_link(browser)
        code = made_link(browser)
        browser.get(f"/{code}")
        rows = browser.get("/links").html.select("main tbody tr")
        assert [[cell.text for cell in row.select("td")] for row in rows] == [[code, ADDRESS, "1"]]


class TestMostFollowed:
    def rows(self, page: TestResponse) -> list[list[str]]:
        rows = page.html.select_one("table").select("tbody tr")
        return [[cell.text for cell in row.select("td")] for row in rows]

    def test_page_is_there_before_the_first_link(self, browser: TestApp) -> None:
        assert "Nobody has followed a link yet" in browser.get("/top").text

    def test_most_followed_comes_first(self, browser: TestApp) -> None:
        seldom, often = made_link(browser, f"{ADDRESS}/1"), made_link(browser, f"{ADDRESS}/2")
        for code in (seldom, often, often):
            browser.get(f"/{code}")
        assert self.rows(browser.get("/top")) == [
            [often, f"{ADDRESS}/2", "2"],
            [seldom, f"{ADDRESS}/1", "1"],
        ]

    def test_all_clicks_are_added_up(self, browser: TestApp) -> None:
        for code in (made_link(browser), made_link(browser)):
            browser.get(f"/{code}")
        assert browser.get("/top").html.select_one("tfoot .number").text == "2"

    def test_ten_links_are_shown(self, browser: TestApp) -> None:
        for _ in range(11):
            browser.get(f"/{made_link(browser)}")
        assert len(self.rows(browser.get("/top"))) == 10

    def test_clicks_that_wait_for_the_worker_are_told(self, browser: TestApp) -> None:
        browser.get(f"/{made_link(browser)}")
        assert "1 click waits for the worker" in browser.get("/top").text

    def test_is_read_in_two_round_trips(
        self, browser: TestApp, recorded_spans: RecordedSpans
    ) -> None:
        browser.get(f"/{made_link(browser)}")
        recorded_spans.clear()
        browser.get("/top")
        assert recorded_spans.names == ["GET /top", "links.pipeline_statistics", "links.MGET"]


def handled(app: Any, body: bytes) -> None:
    """Have the worker's handler process a message."""
    with server_context(app.registry, "test") as context:
        context.clicks.put(body)
        with context.clicks.receive(timeout=0) as message:
            handle(context, message)


class TestWorker:
    def test_click_shows_up_among_the_latest(self, app: Any, browser: TestApp) -> None:
        handled(app, CLICK)
        assert browser.get("/top").html.select_one("time").text == "2026-11-23 10:20:30"

    def test_click_that_was_kept_waits_no_longer(self, app: Any, browser: TestApp) -> None:
        handled(app, CLICK)
        assert "for the worker" not in browser.get("/top").text

    def test_clicks_are_counted_by_day(self, app: Any, client: redis.Redis) -> None:
        for day in ("23", "23", "24"):
            handled(app, CLICK.replace(b"-23T", b"-%sT" % day.encode()))
        assert client.hgetall("links:days") == {"2026-11-23": "2", "2026-11-24": "1"}

    def test_ten_latest_clicks_are_kept(self, app: Any, client: redis.Redis) -> None:
        for _ in range(11):
            handled(app, CLICK)
        assert client.llen("links:latest") == 10

    def test_a_click_is_kept_where_its_message_is_processed(
        self, app: Any, empty_redis: None, recorded_spans: RecordedSpans
    ) -> None:
        handled(app, CLICK)
        assert ("links.pipeline_keep_click", "process clicks") in recorded_spans.tree()

    @pytest.mark.parametrize(
        "message",
        [
            b"", b"{", b"[]", b"7", b"\xff", b"{}", b'{"code": "a"}', b'{"code": "a", "at": 1}',
            b'{"code": "a", "at": "today"}',
        ],
    )  # fmt: skip
    def test_message_that_is_no_click_is_a_dead_letter_in_the_end(
        self, app: Any, client: redis.Redis, message: bytes
    ) -> None:
        with server_context(app.registry, "test") as context:
            context.clicks.put(message)
            for _ in range(5):
                with (
                    pytest.raises(ValueError, match="not a click"),
                    context.clicks.receive(timeout=5) as received,
                ):
                    handle(context, received)
            (letter,) = context.clicks.dead_letters()
        assert (letter.body, letter.error) == (message, "ValueError")
        assert not client.exists("links:latest")

    def test_goes_on_when_redis_was_away(self, tmp_path: Path) -> None:
        with running_server("valkey", tmp_path) as server:
            app = main({}, **{"links.url": server.url})
            stopping = threading.Event()
            worker = threading.Thread(
                target=work, args=(app.registry, "clicks", handle), kwargs={"stop": stopping}
            )
            worker.start()
            try:
                server.kill()
                time.sleep(0.1)
                server.restart()
                with redis.Redis(port=server.port) as client:
                    client.xadd("{clicks}:messages", {"body": CLICK})
                    wait_until(lambda: client.exists("links:latest"))
            finally:
                stopping.set()
                worker.join(10)
            assert not worker.is_alive()

    @pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGINT])
    def test_process_keeps_a_click_and_stops_at_a_signal(
        self, tmp_path: Path, valkey: Server, outside: redis.Redis, stop: signal.Signals
    ) -> None:
        config = copied_ini("development.ini", tmp_path, {EMBEDDED: valkey.url})
        outside.xadd("{clicks}:messages", {"body": CLICK.decode()})
        with started([*PREDIS_WORK, config, *WORKER], tmp_path) as worker:
            wait_until(lambda: outside.exists("links:latest"))
            worker.process.send_signal(stop)
            assert worker.process.wait(20) == 0
        assert "  links.pipeline_keep_click" in worker.output
        assert "stopped" in worker.errors


class Printed:
    """A tracer whose spans a :class:`SpanTreePrinter` prints."""

    def __init__(self, **options: Any) -> None:
        self.out = io.StringIO()
        self.provider = TracerProvider(shutdown_on_exit=False)
        self.provider.add_span_processor(SimpleSpanProcessor(SpanTreePrinter(self.out, **options)))
        self.tracer = self.provider.get_tracer("test")

    def start(self, name: str, parent: trace.Span | None = None, **options: Any) -> Span:
        context = trace.set_span_in_context(parent) if parent is not None else None
        span = self.tracer.start_span(name, context=context, **options)
        assert isinstance(span, Span)
        return span

    @property
    def lines(self) -> list[str]:
        return self.out.getvalue().splitlines()

    @property
    def names(self) -> list[str]:
        """The printed lines without durations and what follows them."""
        return [re.sub(r" +\d+\.\d+ ms.*", "", line) for line in self.lines]


class TestPrintedSpans:
    def test_line_has_the_name_and_the_duration(self) -> None:
        printed = Printed()
        printed.start("GET /{code}", start_time=1_000_000).end(4_500_000)
        assert [line.split() for line in printed.lines] == [["GET", "/{code}", "3.50", "ms"]]

    def test_spans_are_indented_under_their_parents(self) -> None:
        printed = Printed()
        root = printed.start("request")
        child = printed.start("child", root)
        printed.start("grandchild", child).end()
        child.end()
        printed.start("sibling", root).end()
        root.end()
        assert printed.names == ["request", "  child", "    grandchild", "  sibling"]

    def test_siblings_stand_in_the_order_of_their_start(self) -> None:
        printed = Printed()
        root = printed.start("request", start_time=1)
        first, second = (
            printed.start("first", root, start_time=2),
            printed.start("second", root, start_time=3),
        )
        second.end(4)
        first.end(5)
        root.end(6)
        assert printed.names == ["request", "  first", "  second"]

    def test_durations_stand_in_one_column(self) -> None:
        printed = Printed()
        root = printed.start("request", start_time=0)
        printed.start("links.pipeline_count_click", root, start_time=0).end(12_340_000)
        root.end(123_456_000)
        assert len({line.index(" ms") for line in printed.lines}) == 1

    def test_nothing_is_printed_before_the_root_has_ended(self) -> None:
        printed = Printed()
        printed.start("child", printed.start("request")).end()
        assert printed.lines == []

    def test_a_request_that_continues_another_process_is_a_root(self) -> None:
        printed = Printed()
        remote = NonRecordingSpan(SpanContext(1, 2, is_remote=True, trace_flags=TraceFlags(1)))
        printed.start("request", remote).end()
        assert printed.names == ["request"]

    def test_error_is_shown_with_its_kind(self) -> None:
        printed = Printed()
        span = printed.start(
            "links.GET",
            attributes={
                "error.type": "redis.exceptions.ResponseError",
                "db.response.status_code": "WRONGTYPE",
            },
        )
        span.set_status(StatusCode.ERROR)
        span.end()
        assert printed.lines[0].endswith(" ms  ERROR redis.exceptions.ResponseError WRONGTYPE")

    @pytest.mark.parametrize(
        ("key", "value", "shown"),
        [
            ("http.response.status_code", 302, "302"),
            ("db.operation.batch.size", 5, "5 commands"),
            ("db.client.connection.wait_time", 0.25, "waited 250 ms for a connection"),
        ],
    )
    def test_detail_is_shown_behind_the_duration(self, key: str, value: float, shown: str) -> None:
        printed = Printed()
        printed.start("span", attributes={key: value}).end()
        assert printed.lines[0].endswith(f" ms  {shown}")

    def test_span_that_ends_after_its_root_is_printed_by_itself(self) -> None:
        printed = Printed()
        root = printed.start("request")
        late = printed.start("late", root)
        root.end()
        late.end()
        assert printed.names == ["request", "  late"]
        assert printed.lines[1].endswith("after the end of request")

    def test_span_whose_parent_goes_on_stands_under_the_root(self) -> None:
        printed = Printed()
        root = printed.start("request")
        printed.start("grandchild", printed.start("child", root)).end()
        root.end()
        assert printed.names == ["request", "  grandchild"]

    def test_spans_beyond_the_most_are_counted(self) -> None:
        printed = Printed(most_spans=2)
        root = printed.start("request")
        for _ in range(5):
            printed.start("child", root).end()
        root.end()
        assert printed.names == ["request", "  child", "  child", "  and 3 more"]

    def test_oldest_trace_is_given_up_when_there_are_too_many(self) -> None:
        printed = Printed(most_traces=2)
        for number in range(3):
            printed.start(f"child {number}", printed.start("never ends")).end()
        assert printed.names == ["(unfinished)", "  child 0"]

    def test_unfinished_traces_are_printed_at_the_end(self) -> None:
        printed = Printed()
        printed.start("child", printed.start("never ends")).end()
        printed.provider.shutdown()
        assert printed.names == ["(unfinished)", "  child"]

    def test_finished_traces_are_not_kept_for_ever(self) -> None:
        printed = Printed(most_traces=2)
        late = printed.start("late", root := printed.start("request"))
        root.end()
        for _ in range(2):
            printed.start("request").end()
        late.end()
        assert "  late" not in printed.names

    def test_quiet_request_is_not_printed(self) -> None:
        printed = Printed(quiet=("/static/",))
        printed.start("GET", attributes={"url.path": "/static/theme.css"}).end()
        assert printed.lines == []

    def test_quiet_request_that_fails_is_printed(self) -> None:
        printed = Printed(quiet=("/static/",))
        span = printed.start("GET", attributes={"url.path": "/static/theme.css"})
        span.set_status(StatusCode.ERROR)
        span.end()
        assert printed.names == ["GET"]

    def test_traces_of_several_threads_do_not_mix(self) -> None:
        printed = Printed()

        def requests(thread: int) -> None:
            for number in range(20):
                root = printed.start(f"{thread}.{number}")
                for child in range(3):
                    printed.start(f"{thread}.{number}.{child}", root).end()
                root.end()

        threads = [threading.Thread(target=requests, args=(thread,)) for thread in range(10)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        names = printed.names
        traces = [names[start : start + 4] for start in range(0, len(names), 4)]
        assert len(traces) == 200
        assert all(
            children == [f"  {root}.{child}" for child in range(3)] for root, *children in traces
        )


class TestSettings:
    def test_unknown_place_for_spans_is_an_error(self) -> None:
        with pytest.raises(ConfigurationError, match="'file' is not one of console, otlp, off"):
            main({}, **{"links.url": "redis://localhost", "tracing": "file"})

    def test_production_has_the_four_settings_of_the_reference(self) -> None:
        settings = get_appsettings(str(APP / "production.ini"))
        pool = pool_from_config(settings, "links.")
        arguments = pool.connection_kwargs
        assert (arguments["host"], arguments["port"], arguments["db"]) == ("localhost", 6379, 0)
        assert pool.max_connections == 99
        assert arguments["socket_connect_timeout"] == 3
        assert arguments["socket_timeout"] == 0.2


EMBEDDED = "embedded://%(here)s/var"


def copied_ini(name: str, directory: Path, replaced: dict[str, str]) -> str:
    """Copy an .ini file of the app, with some of its text replaced; its path."""
    text = (APP / name).read_text()
    for old, new in replaced.items():
        assert old in text
        text = text.replace(old, new)
    (directory / name).write_text(text)
    return str(directory / name)


class Started:
    """A process, and what it wrote so far."""

    def __init__(self, process: subprocess.Popen[bytes], output: Path, errors: Path) -> None:
        self.process = process
        self._output, self._errors = output, errors

    @property
    def output(self) -> str:
        return self._output.read_text()

    @property
    def errors(self) -> str:
        return self._errors.read_text()


@contextmanager
def started(command: list[str], directory: Path, **environment: str) -> Iterator[Started]:
    """Start a command in a directory; it is killed at the end unless it has ended."""
    name = Path(command[-1]).stem + str(len(list(directory.glob("*.out"))))
    output, errors = directory / f"{name}.out", directory / f"{name}.err"
    with output.open("wb") as out, errors.open("wb") as err:
        process = subprocess.Popen(
            command, cwd=directory, stdout=out, stderr=err, env={**os.environ, **environment}
        )
    try:
        yield Started(process, output, errors)
    finally:
        process.kill()
        process.wait()


class Visitor:
    """A browser that keeps cookies, follows no redirect and uses no proxy."""

    def __init__(self, base: str) -> None:
        self._base = base
        self._opener = build_opener(ProxyHandler({}), HTTPCookieProcessor(), _Redirects())

    def fetch(self, path: str, **form: str) -> tuple[int, str, str]:
        """The answer's status, ``Location`` and body."""
        data = urlencode(form).encode() if form else None
        try:
            answer = self._opener.open(self._base + path, data, timeout=20)
        except HTTPError as error:
            answer = error
        with answer:
            return answer.status, answer.headers.get("Location", ""), answer.read().decode()


class _Redirects(HTTPRedirectHandler):
    def redirect_request(self, *args: Any) -> None:
        return None


def processes_of(directory: Path) -> list[str]:
    """The command lines that name a directory."""
    lines = [" ".join(process.info["cmdline"] or []) for process in process_iter(["cmdline"])]
    return [line for line in lines if str(directory) in line]


@dataclass
class Session:
    """What came of running the app and the worker, and following a link."""

    home: str
    location: str
    top: str
    output: str
    worker_output: str
    left_running: list[str]


@pytest.fixture(scope="class")
def session(tmp_path_factory: pytest.TempPathFactory) -> Session:
    """Run ``pserve development.ini`` and the worker in another directory, and use them."""
    directory = tmp_path_factory.mktemp("pserve")
    port = free_port()
    config = copied_ini("development.ini", directory, {"localhost:6543": f"127.0.0.1:{port}"})
    visitor = Visitor(f"http://127.0.0.1:{port}")
    pserve = str(Path(sys.executable).with_name("pserve"))
    with (
        started([pserve, config], directory) as app,
        started([*PREDIS_WORK, config, *WORKER], directory) as worker,
    ):
        wait_until(lambda: app.process.poll() is not None or open_sockets_to(port))
        assert app.process.poll() is None, app.errors
        _, _, home = visitor.fetch("/")
        (token,) = re.findall('name="csrf_token" value="([^"]+)"', home)
        _, page, _ = visitor.fetch("/", csrf_token=token, url=ADDRESS)
        code = page.rpartition("/")[2]
        _, location, _ = visitor.fetch(f"/{code}")
        visitor.fetch("/static/theme.css")
        wait_until(lambda: "kept a click" in worker.errors)
        _, _, top = visitor.fetch("/top")
        # The span of the last request ends with its body, which may be after it was read.
        wait_until(lambda: "GET /top" in app.output)
        for started_process in (app, worker):
            started_process.process.terminate()
            started_process.process.wait(20)
        with suppress(AssertionError):
            wait_until(lambda: not processes_of(directory / "var"))
        return Session(
            home, location, top, app.output, worker.output, processes_of(directory / "var")
        )


class TestPserve:
    def test_serves_the_page(self, session: Session) -> None:
        assert "<h1>Shorten a link</h1>" in session.home

    def test_has_the_debug_toolbar(self, session: Session) -> None:
        assert 'id="pDebug"' in session.home

    def test_link_is_followed(self, session: Session) -> None:
        assert session.location == ADDRESS

    def test_worker_shares_the_embedded_server(self, session: Session) -> None:
        assert "<time " in session.top

    def test_spans_of_a_request_are_printed_under_it(self, session: Session) -> None:
        duration = r" +\d+\.\d\d ms"
        expected = (
            rf"^GET /{{code}}{duration}  302\n"
            rf"  links\.GET{duration}\n"
            rf"  links\.pipeline_count_click{duration}  2 commands\n"
            rf"  send clicks{duration}\n"
            rf"    links\.XADD{duration}\n"
        )
        assert re.search(expected, session.output, re.MULTILINE)

    def test_spans_of_the_worker_are_printed(self, session: Session) -> None:
        assert "process clicks" in session.worker_output

    def test_static_files_are_not_printed(self, session: Session) -> None:
        assert "/static/" not in session.output

    def test_nothing_is_left_running(self, session: Session) -> None:
        assert session.left_running == []


class TestProduction:
    def test_spans_are_sent_by_otlp(
        self, tmp_path: Path, valkey: Server, outside: redis.Redis
    ) -> None:
        config = copied_ini("production.ini", tmp_path, {"redis://localhost:6379/0": valkey.url})
        command = [*PREDIS_WORK, config, *WORKER]
        outside.xadd("{clicks}:messages", {"body": CLICK.decode()})
        with (
            collector() as (endpoint, received),
            started(
                command, tmp_path, OTEL_EXPORTER_OTLP_ENDPOINT=endpoint, NO_PROXY="*"
            ) as worker,
        ):
            wait_until(lambda: outside.exists("links:latest"))
            worker.process.terminate()
            worker.process.wait(20)
        names = {
            span.name
            for request in received
            for resource in request.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        }
        assert {"process clicks", "links.pipeline_keep_click"} <= names


@contextmanager
def collector() -> Iterator[tuple[str, list[ExportTraceServiceRequest]]]:
    """An OpenTelemetry collector: its address, and the requests that it received."""
    received: list[ExportTraceServiceRequest] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.path == "/v1/traces":
                received.append(ExportTraceServiceRequest.FromString(body))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *args: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", received
        finally:
            server.shutdown()
            thread.join()
