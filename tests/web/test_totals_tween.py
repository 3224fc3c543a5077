"""``foo.trace_min_duration``: the totals on a span of OpenTelemetry's instrumentation."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.instrumentation.pyramid import PyramidInstrumentor
from opentelemetry.instrumentation.wsgi import OpenTelemetryMiddleware
from opentelemetry.metrics import NoOpMeterProvider
from pyramid.config import Configurator
from pyramid.request import Request
from pyramid.response import Response
from pyramid.tweens import EXCVIEW
from webtest import TestApp

from pyramid_baseplate_redis.interfaces import IRedisContextFactory
from pyramid_baseplate_redis.telemetry import request_totals
from pyramid_baseplate_redis.web.totals_tween import TOTALS_TWEEN, request_totals_tween_factory
from pyramid_baseplate_redis.web.tween import OPENTELEMETRY_TWEEN, SERVER_SPAN_TWEEN

from ..support.servers import RecordedSpans
from ..support.totals import PING_AFTER, operations_of, stream
from ..support.views import called, hello, ping, server_span

Handler = Callable[[Request], Any]
Serve = Callable[..., TestApp]
tracer = trace.get_tracer("tests")


@pytest.fixture
def instrumented() -> Iterator[None]:
    """OpenTelemetry's instrumentation of Pyramid is active."""
    PyramidInstrumentor().instrument()
    yield
    PyramidInstrumentor().uninstrument()


def in_middleware(app: TestApp) -> TestApp:
    """The same application in OpenTelemetry's WSGI middleware."""
    return TestApp(OpenTelemetryMiddleware(app.app, meter_provider=NoOpMeterProvider()))


# A span that is already current, such as that of OpenTelemetry's WSGI middleware


def test_the_span_of_the_wsgi_middleware_gets_the_totals_after_the_body(
    serve_fast: Serve, spans: RecordedSpans
) -> None:
    app = in_middleware(serve_fast(stream))
    spans.clear()
    assert app.get("/path/1").text == "hello"
    assert len(spans.all) == 1
    assert operations_of(server_span(spans)) == 3


def test_the_commands_of_outer_tweens_and_callbacks_are_counted_too(
    serve_fast: Serve, spans: RecordedSpans
) -> None:
    def view(request: Request) -> Response:
        request.add_response_callback(lambda request, response: request.foo.ping())
        request.add_finished_callback(lambda request: request.foo.ping())
        return ping(request)

    app = in_middleware(
        serve_fast(view, lambda config: config.add_tween(PING_AFTER, over=TOTALS_TWEEN))
    )
    spans.clear()
    app.get("/path/1")
    assert len(spans.all) == 1
    assert operations_of(server_span(spans)) == 4


def test_the_totals_are_written_at_the_end_of_the_tween_already(
    serve_fast: Serve, spans: RecordedSpans
) -> None:
    app = in_middleware(
        serve_fast(
            stream, lambda config: config.add_tween(f"{__name__}.look_after", over=TOTALS_TWEEN)
        )
    )
    assert app.get("/path/1").headers["operations"] == "1"
    assert operations_of(spans.all[-1]) == 3


def look_after(handler: Handler, registry: Any) -> Handler:
    """A tween that looks at the totals of the current span after the response is made."""

    def tween(request: Request) -> Any:
        response = handler(request)
        span: Any = trace.get_current_span()
        response.headers["operations"] = str(operations_of(span))
        return response

    return tween


def test_a_body_that_cannot_be_followed_is_over_with_the_finished_callbacks(
    serve_fast: Serve, spans: RecordedSpans
) -> None:
    class Wrapper:
        """A server's own file wrapper."""

        def __iter__(self) -> Iterator[bytes]:
            yield b"hello"

    def view(request: Request) -> Response:
        request.foo.ping()
        request.add_finished_callback(lambda request: request.foo.ping())
        request.environ["wsgi.file_wrapper"] = Wrapper
        return Response(app_iter=Wrapper())

    app = in_middleware(serve_fast(view))
    spans.clear()
    assert app.get("/path/1").text == "hello"
    assert len(spans.all) == 1
    assert operations_of(server_span(spans)) == 2


def test_a_request_that_fails_has_totals_on_the_span_of_the_middleware(
    serve_fast: Serve, spans: RecordedSpans
) -> None:
    def view(request: Request) -> Response:
        request.foo.ping()
        request.add_finished_callback(lambda request: request.foo.ping())
        raise ValueError

    app = in_middleware(serve_fast(view))
    spans.clear()
    with pytest.raises(ValueError):  # noqa: PT011 (it has no text)
        app.get("/path/1")
    # The callback runs after the tween: its command has a span.
    assert [span.name for span in spans.all][1:] == ["foo.PING"]
    assert operations_of(server_span(spans)) == 1


def test_a_current_span_that_is_not_recorded_gets_no_totals(
    serve_fast: Serve, spans: RecordedSpans
) -> None:
    app = serve_fast(ping)
    spans.clear()
    unsampled = trace.SpanContext(1, 1, is_remote=False, trace_flags=trace.TraceFlags(0))
    with trace.use_span(trace.NonRecordingSpan(unsampled)):
        body = called(app)
    assert spans.all == []
    assert type(body) is list  # nothing follows it


def test_explicit_tweens_need_the_second_one_in_the_middleware(
    serve_fast: Serve, spans: RecordedSpans
) -> None:
    app = in_middleware(serve_fast(ping, pyramid__tweens=f"{SERVER_SPAN_TWEEN} {EXCVIEW}"))
    spans.clear()
    app.get("/path/1")
    assert [span.name for span in spans.all][1:] == ["foo.PING"]
    tweens = f"{SERVER_SPAN_TWEEN} {TOTALS_TWEEN} {EXCVIEW}"
    app = in_middleware(serve_fast(ping, pyramid__tweens=tweens))
    spans.clear()
    app.get("/path/1")
    assert len(spans.all) == 1
    assert operations_of(server_span(spans)) == 1


# OpenTelemetry's instrumentation of Pyramid


@pytest.mark.parametrize("way", ["instrument", "instrument_config"])
def test_the_span_of_opentelemetry_s_tween_gets_the_totals(
    serve_fast: Serve,
    spans: RecordedSpans,
    request: pytest.FixtureRequest,
    way: str,
) -> None:
    def set_up(config: Configurator) -> None:
        if way == "instrument_config":
            PyramidInstrumentor().instrument_config(config)

    if way == "instrument":
        request.getfixturevalue("instrumented")
    app = serve_fast(ping, set_up)
    spans.clear()
    app.get("/path/1")
    assert len(spans.all) == 1
    assert operations_of(server_span(spans)) == 1


@pytest.mark.usefixtures("instrumented")
def test_other_spans_and_clients_in_opentelemetry_s_tween_change_nothing(
    serve_fast: Serve, spans: RecordedSpans
) -> None:
    def view(request: Request) -> Response:
        with tracer.start_as_current_span("local"):
            request.foo.ping()
        factory = request.registry.getUtility(IRedisContextFactory, "foo")
        factory.make_object_for_context("foo", None).ping()
        return Response("hello")

    app = serve_fast(view)
    spans.clear()
    app.get("/path/1")
    assert [span.name for span in spans.all][1:] == ["local"]
    assert operations_of(server_span(spans)) == 2


@pytest.mark.usefixtures("instrumented")
def test_after_opentelemetry_s_tween_every_command_has_a_span(
    serve_fast: Serve, spans: RecordedSpans
) -> None:
    app = serve_fast(
        stream,
        lambda config: config.add_tween(PING_AFTER, over=OPENTELEMETRY_TWEEN),
    )
    spans.clear()
    assert app.get("/path/1").text == "hello"
    request = server_span(spans)
    assert operations_of(request) == 1
    assert [span.name for span in spans.all] == [request.name, *["foo.PING"] * 3]
    assert all(spans.parent_of(span) == request for span in spans.all[1:])


@pytest.mark.usefixtures("instrumented")
def test_a_request_that_fails_has_totals_on_the_span_of_opentelemetry_s_tween(
    serve_fast: Serve, spans: RecordedSpans
) -> None:
    def view(request: Request) -> Response:
        request.foo.ping()
        raise ValueError

    app = serve_fast(view)
    spans.clear()
    with pytest.raises(ValueError):  # noqa: PT011 (it has no text)
        app.get("/path/1")
    assert len(spans.all) == 1
    assert operations_of(server_span(spans)) == 1


@pytest.mark.usefixtures("instrumented")
@pytest.mark.parametrize("use_tweens", [False, True])
def test_a_subrequest_in_opentelemetry_s_tween_is_counted_once(
    serve_fast: Serve, spans: RecordedSpans, use_tweens: bool
) -> None:
    def view(request: Request) -> Response:
        request.foo.ping()
        if request.matchdict["name"] == "inner":
            return Response("hello")
        subrequest = Request.blank("/path/inner")
        return request.invoke_subrequest(subrequest, use_tweens=use_tweens)

    app = serve_fast(view)
    spans.clear()
    app.get("/path/outer")
    assert [span.name for span in spans.all if span.name == "foo.PING"] == []
    assert sum(operations_of(span) for span in spans.all) == 2


@pytest.mark.usefixtures("instrumented")
def test_with_both_instrumentations_the_outer_span_gets_the_totals(
    serve_fast: Serve, spans: RecordedSpans
) -> None:
    app = in_middleware(serve_fast(stream))
    spans.clear()
    assert app.get("/path/1").text == "hello"
    assert len(spans.all) == 2
    assert operations_of(server_span(spans)) == 3


@pytest.mark.usefixtures("instrumented")
def test_opentelemetry_s_explicit_tweens_need_the_second_one(
    serve_fast: Serve, spans: RecordedSpans
) -> None:
    app = serve_fast(ping, pyramid__tweens=f"{SERVER_SPAN_TWEEN} {EXCVIEW}")
    spans.clear()
    app.get("/path/1")
    assert [span.name for span in spans.all][1:] == ["foo.PING"]
    assert operations_of(server_span(spans)) == 0


# Without the setting


def test_without_the_setting_there_is_no_tween(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(request_totals, "_is_enabled", False)
    assert request_totals_tween_factory(hello, None) is hello
