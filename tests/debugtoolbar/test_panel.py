"""The debug toolbar's Redis panel: its tab, operations, totals and advice."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from contextlib import suppress

import pytest
import redis
from pyramid.request import Request
from pyramid.response import Response

from ..support.servers import Server, wait_until
from ..support.toolbar import Toolbar, words
from ..support.topologies import Cluster


def get_a(request: Request) -> Response:
    request.foo.get("a")
    return Response("<body></body>")


class TestTab:
    def test_tells_how_many_commands_there_were_and_their_time(
        self, serve: Callable[..., Toolbar]
    ) -> None:
        def view(request: Request) -> Response:
            request.foo.get("a")
            with request.foo.pipeline() as pipeline:
                pipeline.get("a").get("b").execute()
            return Response()

        toolbar = serve(view)
        toolbar.get()

        assert re.fullmatch(r"3 in \d+(\.\d+)? ms Redis", words(toolbar.tab))

    def test_is_disabled_where_a_request_asked_nothing_of_redis(
        self, serve: Callable[..., Toolbar]
    ) -> None:
        toolbar = serve(lambda request: Response())
        toolbar.get()

        assert toolbar.tab["class"] == ["disabled"]
        assert toolbar.panel is None

    @pytest.mark.alone("a slow command is a reason for advice")
    def test_has_no_colour_where_all_is_well(self, serve: Callable[..., Toolbar]) -> None:
        toolbar = serve(get_a)
        toolbar.get()

        assert toolbar.tab.select_one(".badge")["class"] == ["badge", "pull-right"]

    def test_is_red_where_something_failed(self, serve: Callable[..., Toolbar]) -> None:
        toolbar = serve(fail)
        toolbar.get(expect_errors=True)

        assert "progress-bar-danger" in toolbar.tab.select_one(".badge")["class"]

    def test_is_yellow_where_there_is_something_to_mend(
        self, serve: Callable[..., Toolbar]
    ) -> None:
        toolbar = serve(one_by_one)
        toolbar.get()

        assert "progress-bar-warning" in toolbar.tab.select_one(".badge")["class"]


def fail(request: Request) -> Response:
    request.foo.set("a", 1)
    request.foo.lpush("a", 1)
    return Response()


def one_by_one(request: Request) -> Response:
    for number in range(12):
        request.foo.get(f"key:{number}")
    return Response()


class TestOperations:
    def test_are_shown_in_their_order(self, serve: Callable[..., Toolbar]) -> None:
        def view(request: Request) -> Response:
            request.foo.set("a", "hello world")
            with request.foo.pipeline("load_page") as pipeline:
                pipeline.get("a").hgetall("b").execute()
            return Response()

        toolbar = serve(view)
        toolbar.get()

        assert toolbar.commands == [
            'SET a "hello world"',
            "pipeline_load_page 2 commands GET a HGETALL b",
        ]

    def test_have_time_reply_and_line(self, serve: Callable[..., Toolbar]) -> None:
        toolbar = serve(get_a)
        toolbar.get()

        _, _, time, reply, line, _ = toolbar.rows[0].select("td")
        assert float(words(time)) > 0
        assert words(reply) == "0 bytes"
        assert re.fullmatch(r"test_panel\.py:\d+ in get_a", words(line))

    def test_lines_that_led_there_are_shown_on_hover(self, serve: Callable[..., Toolbar]) -> None:
        toolbar = serve(lambda request: get_a(request))
        toolbar.get()

        title = toolbar.rows[0].select("td")[4]["title"]
        assert re.match(
            r"tests/debugtoolbar/test_panel\.py:\d+ in get_a\n"
            r"tests/debugtoolbar/test_panel\.py:\d+ in <lambda>\n",
            title,
        )

    def test_have_a_bar_on_the_time_line_of_the_request(
        self, serve: Callable[..., Toolbar]
    ) -> None:
        toolbar = serve(one_by_one)
        toolbar.get()

        lefts, ends = [], []
        for row in toolbar.rows:
            offset, bar = row.select(".progress-bar")
            left, width = (
                float(re.findall(r"width:([\d.]+)%", it["style"])[-1]) for it in (offset, bar)
            )
            lefts.append(left)
            ends.append(left + width)
        assert lefts == sorted(lefts)
        assert 0 < lefts[0] < ends[-1] <= 100.01

    def test_error_is_shown_and_the_row_is_red(self, serve: Callable[..., Toolbar]) -> None:
        toolbar = serve(fail)
        toolbar.get(expect_errors=True)

        assert toolbar.commands[1].startswith("LPUSH a 1 ResponseError: WRONGTYPE ")
        assert [row.get("class") for row in toolbar.rows] == [None, ["danger"]]

    def test_wait_for_a_connection_is_shown(self, serve: Callable[..., Toolbar]) -> None:
        def view(request: Request) -> Response:
            pool = request.foo.connection_pool
            held = pool.get_connection()
            thread = threading.Thread(target=request.foo.get, args=("a",))
            thread.start()
            wait_until(lambda: pool.stats.waiting)
            pool.release(held)
            thread.join()
            return Response()

        toolbar = serve(view, foo__max_connections="1")
        toolbar.get()

        assert "waiting" in words(toolbar.rows[0].select("td")[2])
        assert toolbar.rows[0].select(".progress-bar-warning")

    def test_long_pipeline_is_folded_and_cut_off(self, serve: Callable[..., Toolbar]) -> None:
        def view(request: Request) -> Response:
            with request.foo.pipeline() as pipeline:
                for number in range(30):
                    pipeline.get(number)
                pipeline.execute()
            return Response()

        toolbar = serve(view)
        toolbar.get()

        assert toolbar.commands[0].startswith("pipeline 30 commands GET 0 GET 1 ")
        assert toolbar.commands[0].endswith(" GET 19 and 10 more")
        assert not toolbar.panel.select_one("details").has_attr("open")

    def test_beyond_500_are_counted(self, serve: Callable[..., Toolbar]) -> None:
        def view(request: Request) -> Response:
            for _ in range(503):
                request.foo.ping()
            return Response()

        toolbar = serve(view)
        toolbar.get()

        assert len(toolbar.rows) == 500
        assert "3 more operations are not shown; the totals count them." in toolbar.text

    def test_html_in_keys_values_errors_and_names_is_text(
        self, serve: Callable[..., Toolbar]
    ) -> None:
        evil = "<script>alert(1)</script>"

        def view(request: Request) -> Response:
            request.foo.set(f'"{evil}', evil)
            for _ in range(5):
                request.foo.get(evil)
            with request.foo.pipeline(evil) as pipeline:
                pipeline.get(evil).execute()
            with suppress(redis.ResponseError):
                request.foo.execute_command(evil)
            return Response()

        toolbar = serve(view)
        toolbar.get()

        assert toolbar.panel.select("script") == []
        assert toolbar.commands[0] == f'SET "\\"{evil}" {evil}'
        assert f"pipeline_{evil}" in toolbar.commands[6]
        assert evil.upper() in toolbar.commands[7]
        assert toolbar.advice[0].startswith(f"many GET {evil}, 5 times from ")

    def test_password_is_not_shown(self, serve: Callable[..., Toolbar]) -> None:
        def view(request: Request) -> Response:
            with suppress(redis.RedisError):
                request.foo.config_set("nonsense", "hunter2")
            return Response()

        toolbar = serve(view)
        toolbar.get()

        assert toolbar.commands == ["CONFIG SET *** ResponseError: ERR"]
        assert "hunter2" not in str(toolbar.page)

    def test_of_a_message_queue_are_shown(self, serve: Callable[..., Toolbar]) -> None:
        def view(request: Request) -> Response:
            request.jobs.put("work")
            return Response()

        toolbar = serve(view, lambda config: config.add_message_queue("jobs"))
        toolbar.get()

        assert toolbar.commands == ["RPUSH jobs work"]

    def test_of_a_cluster_are_shown(
        self, serve: Callable[..., Toolbar], valkey_cluster: Cluster
    ) -> None:
        valkey_cluster.tidy()

        def view(request: Request) -> Response:
            request.foo.set("a", 1)
            with request.foo.pipeline("load") as pipeline:
                pipeline.get("a").get("b").execute()
            return Response()

        toolbar = serve(view, foo__url=valkey_cluster.url)
        toolbar.get()

        assert toolbar.commands == ["SET a 1", "pipeline_load 2 commands GET a GET b"]
        assert words(toolbar.rows[0].select("td")[4]).endswith(" in view")


class TestTotals:
    def test_of_one_client(self, serve: Callable[..., Toolbar]) -> None:
        toolbar = serve(fail)
        toolbar.get(expect_errors=True)

        (row,) = toolbar.totals
        assert row[:3] + row[-1:] == ["foo", "2", "2", "1"]

    def test_of_several_and_of_all(self, serve: Callable[..., Toolbar], valkey: Server) -> None:
        def view(request: Request) -> Response:
            request.foo.get("a")
            with request.bar.pipeline() as pipeline:
                pipeline.get("a").get("b").execute()
            return Response()

        toolbar = serve(view, bar__url=valkey.url)
        toolbar.get()

        assert [row[:3] for row in toolbar.totals] == [
            ["foo", "1", "1"],
            ["bar", "1", "2"],
            ["All", "2", "3"],
        ]
        assert [words(row.select("td")[1]) for row in toolbar.rows] == ["foo", "bar"]


class TestAdvice:
    def test_command_that_one_line_issues_many_times(self, serve: Callable[..., Toolbar]) -> None:
        toolbar = serve(one_by_one)
        toolbar.get()

        (found,) = toolbar.advice
        assert re.fullmatch(
            r"many 12 GETs from test_panel\.py:\d+ in one_by_one: "
            r"use MGET or a named pipeline "
            r"Saves up to [\d.]+ ms: 11 of 12 round trips at the median of [\d.]+ ms"
            r"(, but not more than they took together)?",
            found,
        )

    def test_large_reply(self, serve: Callable[..., Toolbar]) -> None:
        def view(request: Request) -> Response:
            request.foo.set("a", "x" * 200_000)
            request.foo.get("a")
            return Response()

        toolbar = serve(view)
        toolbar.get()

        assert next(found for found in toolbar.advice if found.startswith("large")).startswith(
            "large reply of 200.0 kB to GET a from test_panel.py:"
        )
        assert toolbar.rows[1]["class"] == ["warning"]

    @pytest.mark.alone("a slow command is a reason for advice")
    def test_there_is_none_where_all_is_well(self, serve: Callable[..., Toolbar]) -> None:
        toolbar = serve(get_a)
        toolbar.get()

        assert "Suggestions" not in toolbar.text
