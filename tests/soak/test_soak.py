"""The parts of a soak, and a soak of 15 seconds."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from webtest import TestApp

from example_app import main

from ..support.link_shortener import submit
from ..support.servers import RecordedSpans, Server
from .bounds import CALLS, FOLLOWED, Bounds
from .deployment import INI, app_settings
from .load import Visitors
from .records import Answer, Records

PROJECT = Path(__file__).parents[2]
SETTINGS = app_settings(INI)


class TestBounds:
    def test_come_from_the_settings(self) -> None:
        bounds = Bounds.of({**SETTINGS, "links.deadline": "7 seconds"})
        assert bounds.of_page("echo") == 7
        assert bounds.of_page("follow") == 21
        assert bounds.of_page("lock") == 28.5
        assert bounds.of_page("pubsub") == 10

    def test_need_a_deadline(self) -> None:
        settings = {key: SETTINGS[key] for key in SETTINGS if key != "links.deadline"}
        with pytest.raises(ValueError, match=r"links\.deadline: not set"):
            Bounds.of(settings)

    def test_allow_for_the_calls_that_each_page_makes(
        self, valkey: Server, spans: RecordedSpans
    ) -> None:
        settings = {"links.url": valkey.url, "pyramid.includes": "tests.soak.pages"}
        browser = TestApp(main({}, **settings))
        codes = [submit(browser, f"https://example.com/{n}").location for n in range(2 * FOLLOWED)]
        codes = [location.rpartition("/")[2] for location in codes]
        for code in codes:
            browser.get(f"/{code}")
        paths = {
            "home": "/", "link": f"/links/{codes[0]}", "follow": f"/{codes[0]}", "top": "/top",
            "links": "/links", "shorten": "/",
        }  # fmt: skip
        for page, calls in CALLS.items():
            spans.clear()
            if page == "shorten":
                submit(browser, "https://example.com")
            else:
                browser.get(paths.get(page, f"/soak/{page}/text"))
            # "shorten" gets the form first, which makes no call.
            made = [name for name in spans.names if name.startswith("links.")]
            assert (page, len(made)) == (page, calls), made


class TestVisitors:
    @contextmanager
    def answering(self, status: int, body: str) -> Iterator[Visitors]:
        """Yield visitors of a server that always says the same."""

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                text = body.replace("<the text>", self.path.rpartition("/")[2])
                self.send_response(status)
                self.end_headers()
                self.wfile.write(text.encode())

            def log_message(self, *_: Any) -> None:
                pass

        with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
            threading.Thread(target=server.serve_forever, args=(0.01,)).start()
            self.records = Records(minutes=1, max_connections=4)
            bounds = Bounds.of(SETTINGS)
            yield Visitors("gthread", server.server_port, bounds, self.records, lambda: 0.0)
            server.shutdown()

    def answer(self, page: str, status: int, body: str) -> Answer:
        with self.answering(status, body) as visitors:
            visitors.ask(page)
        (answer,) = self.records.answers
        return answer

    @pytest.mark.parametrize(
        ("page", "status", "body"),
        [
            ("echo", 200, '["<the text>"]'),
            ("watch", 200, '[null, "<the text>"]'),
            ("watch", 409, '["<the text>"]'),
            ("echo", 503, "Try again soon"),
            ("health", 503, json.dumps({"clients": {"links": {"status": "failing"}}})),
        ],
    )
    def test_accept_the_answer_to_their_question(self, page: str, status: int, body: str) -> None:
        answer = self.answer(page, status, body)
        assert (answer.status, answer.wrong) == (status, "")

    @pytest.mark.parametrize(
        ("page", "status", "body"),
        [
            ("echo", 200, '["another text"]'),
            ("pipeline", 200, '["<the text>-0", "<the text>-2", "<the text>-1"]'),
            ("watch", 200, '["<the text>", "<the text>"]'),
            ("echo", 409, '["<the text>"]'),
            ("echo", 500, '["<the text>"]'),
            ("echo", 200, "<html>"),
            ("top", 200, '<code>abc</code></a></td> <td class="address">nowhere</td>'),
            ("links", 200, '<code>abc</code></a></td> <td class="address">https://a.b</td>'),
            ("health", 200, json.dumps({"clients": {"links": {"status": "failing"}}})),
        ],
    )
    def test_report_every_other_answer(self, page: str, status: int, body: str) -> None:
        assert self.answer(page, status, body).wrong

    def test_report_a_server_that_does_not_answer(self) -> None:
        with self.answering(200, "") as visitors:
            pass
        visitors.ask("echo")
        (answer,) = self.records.answers
        assert answer.status == 0
        assert "ConnectionRefusedError" in answer.wrong


@pytest.mark.slow("runs the app under gunicorn for 15 seconds")
@pytest.mark.alone("each request has to be answered within its bound")
def test_a_short_soak_passes_and_writes_its_report(tmp_path: Path) -> None:
    command = [
        sys.executable, "-m", "tests.soak", "--minutes", "0.25", "--worker-class", "gthread",
        "--quiet", "2", "--no-plots", "--report", str(tmp_path),
    ]  # fmt: skip
    ended = subprocess.run(
        command, cwd=PROJECT, capture_output=True, text=True, timeout=150, check=False
    )
    assert ended.returncode == 0, ended.stdout[-8000:] + ended.stderr[-8000:]
    report = (tmp_path / "summary.txt").read_text()
    assert report == ended.stdout
    assert [file.name for file in tmp_path.iterdir()] == ["summary.txt"]
    assert "Passed. The soak was too short to judge every series" in report

    def figure(name: str) -> int:
        found = re.search(rf"^{name} +(\d+)", report, re.MULTILINE)
        assert found, report
        return int(found[1])

    # It was a soak: each page was asked, faults came, processes were sampled, the queue was used.
    assert figure("faults") >= 2
    assert figure("requests") > 100
    for page in ("follow", "links", "echo", "pubsub", "lock"):
        assert figure(page) > 0
    for process in ("gthread 1", "gthread 2", "queue worker"):
        assert f"{process}, USS" in report
    clicks = re.search(r"Clicks: (\d+) acknowledged, (\d+) kept, 0 waiting, 0 dead", report)
    assert clicks, report
    assert 0 < int(clicks[1]) <= int(clicks[2])
