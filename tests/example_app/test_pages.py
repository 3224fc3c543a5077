"""The pages of the example app: links are made, followed and counted."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any

import pytest
import redis
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from pyramid.exceptions import ConfigurationError
from webtest import TestApp, TestResponse

from example_app import main
from example_app.links import MOST_CHARACTERS, Click
from example_app.metrics import pool_lines
from pyramid_baseplate_redis.testing import dummy_request
from pyramid_baseplate_redis.testing.spans import RecordedSpans

from ..support.link_shortener import ADDRESS, made_link, submit
from ..support.servers import Server, attributes, free_port

pytest_plugins = ["pyramid_baseplate_redis.testing.fixtures"]

POOL = "db.client.connection.pool"


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
            (
                "https://example.com/" + "\N{GRINNING FACE}" * 500,
                "That address is too long: in ASCII it has 6020 characters; 2000 are allowed.",
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
    def test_a_readiness_probe_reports_the_client(self, valkey: Server) -> None:
        app = main({}, **{"links.url": valkey.url, "links.health_timeout": "20 seconds"})
        answer = TestApp(app).get("/health/redis").json
        assert {name: each["status"] for name, each in answer["clients"].items()} == {"links": "ok"}


class TestQueuesPage:
    @pytest.mark.parametrize("setting", [{}, {"queues_page": "false"}], ids=["default", "false"])
    def test_is_shown_to_no_one_by_default(self, valkey: Server, setting: dict[str, str]) -> None:
        browser = TestApp(main({}, **{"links.url": valkey.url, **setting}))
        assert "Queue" not in browser.get("/")
        browser.get("/queues", status=404)

    def test_shows_the_clicks(self, valkey: Server) -> None:
        browser = TestApp(main({}, **{"links.url": valkey.url, "queues_page": "true"}))
        browser.get(f"/{made_link(browser)}")
        page = browser.get("/").click("Queue")
        assert "The body is empty." not in page.click(r"\d+-0")


class TestWithoutRedis:
    @pytest.fixture
    def browser(self) -> TestApp:
        return TestApp(main({}, **{"links.url": f"redis://127.0.0.1:{free_port()}"}))

    def test_the_visitor_is_asked_to_try_again(self, browser: TestApp) -> None:
        answer = browser.get("/abc234", status=503)
        assert "Try again soon" in answer
        assert answer.headers["Retry-After"] == "5"

    def test_the_visitor_is_promised_nothing(self, browser: TestApp) -> None:
        # A server without persistence may have lost all links.
        assert "lost" not in browser.get("/abc234", status=503).html.select_one("main").text

    def test_the_log_tells_what_failed(
        self, browser: TestApp, caplog: pytest.LogCaptureFixture
    ) -> None:
        browser.get("/abc234", status=503)
        (message,) = [record.getMessage() for record in caplog.records]
        assert message.startswith("GET /abc234: ConnectionError: links: Error 111 connecting to")

    def test_what_needs_no_redis_works(self, browser: TestApp) -> None:
        browser.get("/")

    def test_a_readiness_probe_says_so(self, browser: TestApp) -> None:
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
        assert "No link was visited yet" in browser.get("/links").text

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
        assert "No link was visited yet" in browser.get("/top").text

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

    def test_clicks_that_wait_for_the_worker_are_reported(self, browser: TestApp) -> None:
        browser.get(f"/{made_link(browser)}")
        assert "1 click waits for the worker" in browser.get("/top").text

    @pytest.mark.parametrize(
        "foreign",
        [
            b"no JSON",
            b"[1]",
            b'{"code": "abc234"}',
            b'{"code": "\\ud800", "at": "2026-01-01"}',
            b"\xff",
        ],
    )
    def test_foreign_entry_among_the_latest_clicks_is_skipped_and_logged(
        self,
        browser: TestApp,
        client: redis.Redis,
        caplog: pytest.LogCaptureFixture,
        foreign: bytes,
    ) -> None:
        click = Click("abc234", datetime(2026, 1, 1, tzinfo=timezone.utc))
        client.rpush("links:latest", foreign, click.to_message())
        page = browser.get("/top", status=200)
        (row,) = page.html.select(".columns table")[0].select("tbody tr")
        assert row.select_one("td").text == "abc234"
        (message,) = [record.getMessage() for record in caplog.records]
        assert message.startswith("links:latest: skipped an entry: not a click: ")

    def test_is_read_in_two_round_trips(
        self, browser: TestApp, recorded_spans: RecordedSpans
    ) -> None:
        browser.get(f"/{made_link(browser)}")
        recorded_spans.clear()
        browser.get("/top")
        assert recorded_spans.names == ["GET /top", "links.pipeline_statistics", "links.MGET"]
