"""Printed spans: the tree of a trace, and the setting that turns printing on."""

from __future__ import annotations

import io
import re
import subprocess
import sys
import textwrap
import threading
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import Span, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.trace import NonRecordingSpan, SpanContext, StatusCode, TraceFlags

from pyramid_baseplate_redis.telemetry.span_outcomes import WAIT_TIME
from pyramid_baseplate_redis.telemetry.span_printer import SpanTreePrinter

from ..support.servers import Server


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

    @pytest.mark.parametrize(
        ("attributes", "shown"),
        [
            ({"error.type": "redis.exceptions.TimeoutError"}, "redis.exceptions.TimeoutError"),
            ({"error.type": "WRONGTYPE", "db.response.status_code": "WRONGTYPE"}, "WRONGTYPE"),
            ({"error.type": "RuntimeError", "db.response.status_code": "ERR"}, "RuntimeError ERR"),
        ],
    )
    def test_error_is_shown_with_its_kind(self, attributes: dict[str, str], shown: str) -> None:
        printed = Printed()
        span = printed.start("links.GET", attributes=attributes)
        span.set_status(StatusCode.ERROR)
        span.end()
        assert printed.lines[0].endswith(f" ms  ERROR {shown}")

    @pytest.mark.parametrize(
        ("key", "value", "shown"),
        [
            ("http.response.status_code", 302, "302"),
            ("db.operation.batch.size", 5, "5 commands"),
            (WAIT_TIME, 0.25, "waited 250 ms for a connection"),
        ],
    )
    def test_detail_is_shown_after_the_duration(self, key: str, value: float, shown: str) -> None:
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


APPLICATION = """
    import sys
    from pyramid.config import Configurator
    from pyramid.response import Response
    from webtest import TestApp
    SET_UP

    def view(request):
        request.foo.set("greeting", "hello")
        return Response(b"done")

    settings = {"foo.url": sys.argv[1], "baseplate_redis.print_spans": "true"}
    for _ in range(2):  # a second application in the same process prints nothing twice
        with Configurator(settings=settings) as config:
            config.include("pyramid_baseplate_redis")
            config.add_route("home", "/")
            config.add_view(view, route_name="home")
        app = TestApp(config.make_wsgi_app())
    app.get("/")
    AFTER
"""


def run(url: str, set_up: str = "", after: str = "") -> subprocess.CompletedProcess[str]:
    """Run an application in a process that has no tracer provider yet."""
    code = textwrap.dedent(APPLICATION.replace("SET_UP", set_up).replace("AFTER", after))
    return subprocess.run(
        [sys.executable, "-c", code, url], capture_output=True, text=True, timeout=60
    )


def printed_names(output: str) -> list[str]:
    return [re.sub(r" +\d+\.\d+ ms.*", "", line) for line in output.splitlines()]


class TestPrintSpansSetting:
    def test_prints_a_request_with_its_commands(self, valkey: Server) -> None:
        result = run(valkey.url)
        assert printed_names(result.stdout) == ["GET /", "  foo.SET"], result.stderr

    def test_adds_a_processor_to_the_sdk_s_provider_that_is_set(self, valkey: Server) -> None:
        set_up = """
    from opentelemetry import trace
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    trace.set_tracer_provider(provider)
"""
        after = "print([span.name for span in exporter.get_finished_spans()])"
        result = run(valkey.url, set_up, after)
        assert printed_names(result.stdout) == ["GET /", "  foo.SET", "['foo.SET', 'GET /']"], (
            result.stderr
        )

    def test_names_the_extra_if_the_sdk_is_missing(self, valkey: Server) -> None:
        result = run(valkey.url, 'sys.modules["opentelemetry.sdk"] = None')
        assert "Install pyramid_baseplate_redis[dev]" in result.stderr
        assert (
            "baseplate_redis.print_spans: the OpenTelemetry SDK is not installed" in result.stderr
        )

    def test_is_an_error_beside_a_provider_that_is_not_the_sdk_s(self, valkey: Server) -> None:
        set_up = (
            "from opentelemetry import trace; trace.set_tracer_provider(trace.NoOpTracerProvider())"
        )
        result = run(valkey.url, set_up)
        assert "baseplate_redis.print_spans: the tracer provider is a NoOpTracerProvider" in (
            result.stderr
        )


def test_a_signal_handler_may_end_a_span_while_its_thread_prints() -> None:
    class Out(io.StringIO):
        def write(self, text: str) -> int:
            if not self.tell():
                super().write(text)
                printed.start("in the handler").end()  # as a handler does that interrupts here
                return len(text)
            return super().write(text)

    printed = Printed()
    printed.out = Out()
    printed.provider = TracerProvider(shutdown_on_exit=False)
    printed.provider.add_span_processor(SimpleSpanProcessor(SpanTreePrinter(printed.out)))
    printed.tracer = printed.provider.get_tracer("test")
    thread = threading.Thread(target=lambda: printed.start("request").end(), daemon=True)
    thread.start()
    thread.join(5)
    assert printed.names == ["request", "in the handler"]
