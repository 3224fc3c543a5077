"""The worker of the example app keeps the clicks."""

from __future__ import annotations

import signal
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import redis
from webtest import TestApp

from example_app import main
from example_app.worker import handle
from pyramid_baseplate_redis import server_context
from pyramid_baseplate_redis.testing.spans import RecordedSpans
from pyramid_baseplate_redis.worker import work

from ..support.link_shortener import (
    CLICK,
    EMBEDDED,
    PREDIS_WORK,
    WORKER,
    copied_ini,
    started,
    wait_until,
)
from ..support.servers import Server, running_server

pytest_plugins = ["pyramid_baseplate_redis.testing.fixtures"]


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
            for _ in range(6):
                with (
                    pytest.raises(ValueError, match="not a click"),
                    context.clicks.receive(timeout=5, delay=0) as received,
                ):
                    handle(context, received)
            (letter,) = context.clicks.dead_letters()
        assert (letter.body, letter.error) == (message, "ValueError")
        assert not client.exists("links:latest")

    @pytest.mark.slow("starts a worker, which imports everything again")
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

    @pytest.mark.slow("starts a worker, which imports everything again")
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
