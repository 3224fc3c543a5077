"""The top of the panel: how much of the request was Redis, the badge's color, the legend."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest
import redis
from pyramid.request import Request
from pyramid.response import Response

from ..support.servers import wait_until
from ..support.toolbar import Toolbar, words

_SLEEP = 0.15  # seconds
_BLOCKED = 0.1


def sleep_and_block(request: Request) -> Response:
    """Sleep 150 ms, and let Redis take 100 ms or, depending on the server's timer, more."""
    time.sleep(_SLEEP)
    request.foo.blpop("nothing", timeout=_BLOCKED)
    return Response()


def fail(request: Request) -> Response:
    request.foo.set("a", 1)
    with suppress(redis.ResponseError):
        request.foo.lpush("a", 1)
    return Response()


class TestShare:
    def test_of_a_request_whose_times_are_known(self, serve: Callable[..., Toolbar]) -> None:
        started = time.perf_counter()
        toolbar = serve(sleep_and_block)
        toolbar.get()
        most = (time.perf_counter() - started) * 1000

        of_redis, of_request = toolbar.share_in_ms
        assert 1000 * _BLOCKED - 5 <= of_redis <= of_request - 1000 * _SLEEP + 1
        assert 1000 * (_SLEEP + _BLOCKED) - 5 <= of_request <= most
        assert f"Redis took {100 * of_redis / of_request:.0f} % of this request" in toolbar.share

    @pytest.mark.alone("compares durations")
    def test_leaves_the_rest_to_the_application(self, serve: Callable[..., Toolbar]) -> None:
        toolbar = serve(sleep_and_block)
        toolbar.get()

        of_redis, of_request = toolbar.share_in_ms
        assert of_request - of_redis == pytest.approx(1000 * _SLEEP, abs=40)

    def test_bar_has_the_width_of_the_share(self, serve: Callable[..., Toolbar]) -> None:
        toolbar = serve(sleep_and_block)
        toolbar.get()

        bar = toolbar.panel.select_one("#redis-share .progress-bar-info")
        (width,) = re.findall(r"width:([\d.]+)%", bar["style"])
        of_redis, of_request = toolbar.share_in_ms
        assert float(width) == pytest.approx(100 * of_redis / of_request, abs=1)

    def test_of_threads_at_the_same_time(self, serve: Callable[..., Toolbar]) -> None:
        def view(request: Request) -> Response:
            client = request.foo
            threads = [
                threading.Thread(
                    target=client.blpop, args=(f"nothing:{number}",), kwargs={"timeout": _BLOCKED}
                )
                for number in range(3)
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            return Response()

        toolbar = serve(view)
        toolbar.get()

        of_redis, of_request = toolbar.share_in_ms
        assert of_redis <= of_request
        assert "Operations overlap: their durations add up to " in toolbar.share

    def test_of_a_wait_for_a_connection(self, serve: Callable[..., Toolbar]) -> None:
        def view(request: Request) -> Response:
            pool = request.foo.connection_pool
            held = pool.get_connection()
            thread = threading.Thread(target=request.foo.get, args=("a",))
            thread.start()
            wait_until(lambda: pool.stats.waiting)
            thread.join(0.02)
            pool.release(held)
            thread.join()
            return Response()

        toolbar = serve(view, foo__max_connections="1")
        toolbar.get()

        assert re.search(r"This includes [\d.]+ ms of waiting for a connection\.", toolbar.share)
        bar = toolbar.panel.select_one("#redis-share .progress-bar-warning")
        (width,) = re.findall(r"width:([\d.]+)%", bar["style"])
        assert 0 < float(width) <= 100

    def test_without_operations_after_the_response(self, serve: Callable[..., Toolbar]) -> None:
        def body(request: Request) -> Iterator[bytes]:
            request.foo.get("b")
            yield b"hello"

        def view(request: Request) -> Response:
            request.foo.get("a")
            return Response(app_iter=body(request), content_type="text/plain")

        toolbar = serve(view)
        toolbar.get()

        assert "Operations after the response (1) are not included." in toolbar.share

    def test_of_more_operations_than_are_kept(self, serve: Callable[..., Toolbar]) -> None:
        def view(request: Request) -> Response:
            for _ in range(503):
                request.foo.ping()
            return Response()

        toolbar = serve(view)
        toolbar.get()

        of_redis, of_request = toolbar.share_in_ms
        assert toolbar.share.startswith("Redis took at most ")
        assert of_redis <= of_request


class TestBadge:
    def test_is_red_because_of_errors(self, serve: Callable[..., Toolbar]) -> None:
        toolbar = serve(fail)
        toolbar.get()

        assert toolbar.badge_reason == "The badge is red because 1 operation failed."

    def test_is_orange_because_of_suggestions(self, serve: Callable[..., Toolbar]) -> None:
        def view(request: Request) -> Response:
            request.foo.set("a", "x" * 200_000)
            for _ in range(5):
                request.foo.get("a")
            return Response()

        toolbar = serve(view)
        toolbar.get()

        assert re.fullmatch(
            r"The badge is orange because of many operations from one line,? "
            r"(a slow operation )?and a large reply\.",
            toolbar.badge_reason or "",
        )

    @pytest.mark.alone("a slow command is a reason for a color")
    def test_has_no_color_and_no_reason(self, serve: Callable[..., Toolbar]) -> None:
        toolbar = serve(lambda request: (request.foo.get("a"), Response())[1])
        toolbar.get()

        assert toolbar.badge_reason is None


def test_headings_and_legend(serve: Callable[..., Toolbar]) -> None:
    toolbar = serve(fail)
    toolbar.get()

    headings = [words(heading) for heading in toolbar.panel.select("h4")]
    assert headings[-3:] == ["Totals", "Legend", "Operations"]
    assert "Called from" in [words(cell) for cell in toolbar.panel.select("#redis-operations th")]
    legend = [words(item) for item in toolbar.panel.select("#redis-legend li")]
    assert legend[-5:] == [
        "row: it is slow, waiting or large",
        "many 5 or more operations of one name from one line",
        "slow an operation took 100 ms or more",
        "waiting an operation waited 100 ms or more for a connection",
        "large a reply of 100 kB or more, or of more than 10,000 values",
    ]


def test_command_that_is_meant_to_wait_has_no_mark(serve: Callable[..., Toolbar]) -> None:
    toolbar = serve(sleep_and_block)
    toolbar.get()

    (row,) = toolbar.rows
    assert row.get("class") is None
    assert row.select(".redis-mark") == []
