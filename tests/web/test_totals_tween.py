"""``foo.trace_min_duration``: which span of a request gets the totals, and when."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from threading import Event
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.instrumentation.pyramid import PyramidInstrumentor
from opentelemetry.instrumentation.wsgi import OpenTelemetryMiddleware
from opentelemetry.sdk.trace import ReadableSpan
from pyramid.config import Configurator
from pyramid.request import Request
from pyramid.response import Response
from pyramid.scripting import prepare
from pyramid.tweens import EXCVIEW
from webtest import TestApp

from pyramid_baseplate_redis import server_context
from pyramid_baseplate_redis.interfaces import IRedisContextFactory
from pyramid_baseplate_redis.telemetry import request_totals
from pyramid_baseplate_redis.testing import dummy_request
from pyramid_baseplate_redis.web.totals_tween import TOTALS_TWEEN, request_totals_tween_factory
from pyramid_baseplate_redis.web.tween import OPENTELEMETRY_TWEEN, SERVER_SPAN_TWEEN
from pyramid_baseplate_redis.worker import FINISHED, work

from ..support.servers import RecordedSpans, Server, attributes
from ..support.views import called, hello, server_span

Handler = Callable[[Request], Any]
tracer = trace.get_tracer("tests")
OPERATIONS = "pyramid_baseplate_redis.foo.operations"


@pytest.fixture
def serve(valkey: Server, caplog: pytest.LogCaptureFixture) -> Iterator[Callable[..., TestApp]]:
    """An application whose only view is at ``/path/{name}``; all its commands are fast.

    The SDK may log nothing: it warns about an attribute that is set on an ended span.
    """

    def serve(
        view: Handler, prepare: Callable[[Configurator], object] | None = None, **settings: str
    ) -> TestApp:
        dotted = {key.replace("__", "."): value for key, value in settings.items()}
        fast = {"foo.url": valkey.url, "foo.trace_min_duration": "1 minute"}
        config = Configurator(settings={**fast, **dotted})
        config.include("pyramid_baseplate_redis")
        config.add_route("path", "/path/{name}")
        config.add_view(view, route_name="path")
        if prepare is not None:
            prepare(config)
        app = TestApp(config.make_wsgi_app())
        with app.app.request_context({}) as request:
            request.foo.ping()  # connects
        return app

    yield serve
    records = caplog.get_records("call")
    assert [r.getMessage() for r in records if r.name.startswith("opentelemetry.sdk")] == []


@pytest.fixture
def instrumented() -> Iterator[None]:
    """OpenTelemetry's instrumentation of Pyramid is active."""
    PyramidInstrumentor().instrument()
    yield
    PyramidInstrumentor().uninstrument()


def in_middleware(app: TestApp) -> TestApp:
    """The same application in OpenTelemetry's WSGI middleware."""
    return TestApp(OpenTelemetryMiddleware(app.app))


def operations_of(span: ReadableSpan) -> int:
    count: int = attributes(span).get(OPERATIONS, 0)
    return count


def counted(spans: RecordedSpans) -> dict[str, int]:
    """The numbers of operations on the spans that have one."""
    return {span.name: operations_of(span) for span in spans.all if operations_of(span)}


def ping(request: Request) -> Response:
    request.foo.ping()
    return Response("hello")


def streamed(request: Request) -> Iterator[bytes]:
    """A body that sends two commands."""
    request.foo.ping()
    yield b"hel"
    request.foo.ping()
    yield b"lo"


def stream(request: Request) -> Response:
    """Send a command, and further ones with the body."""
    request.foo.ping()
    return Response(app_iter=streamed(request))


def ping_after(handler: Handler, registry: Any) -> Handler:
    """A tween that sends a command after the response is made."""

    def tween(request: Request) -> Any:
        response = handler(request)
        request.foo.ping()
        return response

    return tween


# Our own server span


def test_the_commands_of_a_view_are_counted_on_the_server_span(
    serve: Callable[..., TestApp], spans: RecordedSpans
) -> None:
    def view(request: Request) -> Response:
        request.foo.set("key", "value")
        request.foo.pipeline().get("key").get("key").execute()
        return Response("hello")

    app = serve(view)
    spans.clear()
    app.get("/path/1")
    assert spans.names == ["GET /path/{name}"]
    found = attributes(server_span(spans))
    assert found[OPERATIONS] == 2
    assert found["pyramid_baseplate_redis.foo.commands"] == 3
    assert 0 < found["pyramid_baseplate_redis.foo.duration"] < 60


def test_each_request_has_totals_of_its_own(
    serve: Callable[..., TestApp], spans: RecordedSpans
) -> None:
    app = serve(ping)
    spans.clear()
    app.get("/path/1")
    app.get("/path/1")
    assert [operations_of(span) for span in spans.all] == [1, 1]


def test_a_request_without_commands_has_no_totals(
    serve: Callable[..., TestApp], spans: RecordedSpans
) -> None:
    app = serve(hello)
    spans.clear()
    app.get("/path/1")
    assert [key for key in attributes(server_span(spans)) if "pyramid_baseplate" in key] == []


def test_the_commands_of_tweens_callbacks_and_the_body_are_counted(
    serve: Callable[..., TestApp], spans: RecordedSpans
) -> None:
    def view(request: Request) -> Response:
        request.add_response_callback(lambda request, response: request.foo.ping())
        request.add_finished_callback(lambda request: request.foo.ping())
        return stream(request)

    app = serve(
        view, lambda config: config.add_tween(f"{__name__}.ping_after", over=SERVER_SPAN_TWEEN)
    )
    spans.clear()
    assert app.get("/path/1").text == "hello"
    assert spans.names == ["GET /path/{name}"]
    assert operations_of(server_span(spans)) == 6


def test_a_request_that_fails_has_totals(
    serve: Callable[..., TestApp], spans: RecordedSpans
) -> None:
    def view(request: Request) -> Response:
        request.foo.ping()
        raise ValueError

    app = serve(view)
    spans.clear()
    with pytest.raises(ValueError):  # noqa: PT011 (it has no text)
        app.get("/path/1")
    assert spans.names == ["GET /path/{name}"]
    assert operations_of(server_span(spans)) == 1


@pytest.mark.parametrize("local", [False, True], ids=["", "below a local span"])
@pytest.mark.parametrize("use_tweens", [False, True])
def test_a_subrequest_is_counted_on_the_server_span(
    serve: Callable[..., TestApp], spans: RecordedSpans, use_tweens: bool, local: bool
) -> None:
    def view(request: Request) -> Response:
        if request.matchdict["name"] == "inner":
            return ping(request)
        subrequest = Request.blank("/path/inner")
        if not local:
            return request.invoke_subrequest(subrequest, use_tweens=use_tweens)
        with tracer.start_as_current_span("local"):
            return request.invoke_subrequest(subrequest, use_tweens=use_tweens)

    app = serve(view)
    spans.clear()
    app.get("/path/outer")
    assert [span.name for span in spans.all if span.name != "local"] == ["GET /path/{name}"]
    assert counted(spans) == {"GET /path/{name}": 1}


@pytest.mark.parametrize(
    "settings",
    [
        {"baseplate_redis__server_span": "never"},
        {"pyramid__tweens": EXCVIEW},
    ],
    ids=str,
)
def test_without_a_server_span_every_command_has_a_span(
    serve: Callable[..., TestApp], spans: RecordedSpans, settings: dict[str, str]
) -> None:
    app = serve(ping, **settings)
    spans.clear()
    app.get("/path/1")
    assert spans.tree() == [("foo.PING", None)]


def test_explicit_tweens_without_the_second_one_suffice_for_our_own_server_span(
    serve: Callable[..., TestApp], spans: RecordedSpans
) -> None:
    app = serve(ping, pyramid__tweens=f"{SERVER_SPAN_TWEEN} {EXCVIEW}")
    spans.clear()
    app.get("/path/1")
    assert counted(spans) == {"GET /path/{name}": 1}


# A span that is already current, such as that of OpenTelemetry's WSGI middleware


def test_the_span_of_the_wsgi_middleware_gets_the_totals_after_the_body(
    serve: Callable[..., TestApp], spans: RecordedSpans
) -> None:
    app = in_middleware(serve(stream))
    spans.clear()
    assert app.get("/path/1").text == "hello"
    assert len(spans.all) == 1
    assert operations_of(server_span(spans)) == 3


def test_the_commands_of_outer_tweens_and_callbacks_are_counted_too(
    serve: Callable[..., TestApp], spans: RecordedSpans
) -> None:
    def view(request: Request) -> Response:
        request.add_response_callback(lambda request, response: request.foo.ping())
        request.add_finished_callback(lambda request: request.foo.ping())
        return ping(request)

    app = in_middleware(
        serve(view, lambda config: config.add_tween(f"{__name__}.ping_after", over=TOTALS_TWEEN))
    )
    spans.clear()
    app.get("/path/1")
    assert len(spans.all) == 1
    assert operations_of(server_span(spans)) == 4


def test_the_totals_are_written_at_the_end_of_the_tween_already(
    serve: Callable[..., TestApp], spans: RecordedSpans
) -> None:
    app = in_middleware(
        serve(stream, lambda config: config.add_tween(f"{__name__}.look_after", over=TOTALS_TWEEN))
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
    serve: Callable[..., TestApp], spans: RecordedSpans
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

    app = in_middleware(serve(view))
    spans.clear()
    assert app.get("/path/1").text == "hello"
    assert len(spans.all) == 1
    assert operations_of(server_span(spans)) == 2


def test_a_request_that_fails_has_totals_on_the_span_of_the_middleware(
    serve: Callable[..., TestApp], spans: RecordedSpans
) -> None:
    def view(request: Request) -> Response:
        request.foo.ping()
        request.add_finished_callback(lambda request: request.foo.ping())
        raise ValueError

    app = in_middleware(serve(view))
    spans.clear()
    with pytest.raises(ValueError):  # noqa: PT011 (it has no text)
        app.get("/path/1")
    # The callback runs after the tween: its command has a span.
    assert [span.name for span in spans.all][1:] == ["foo.PING"]
    assert operations_of(server_span(spans)) == 1


def test_a_current_span_that_is_not_recorded_gets_no_totals(
    serve: Callable[..., TestApp], spans: RecordedSpans
) -> None:
    app = serve(ping)
    spans.clear()
    unsampled = trace.SpanContext(1, 1, is_remote=False, trace_flags=trace.TraceFlags(0))
    with trace.use_span(trace.NonRecordingSpan(unsampled)):
        body = called(app)
    assert spans.all == []
    assert type(body) is list  # nothing follows it


def test_explicit_tweens_need_the_second_one_in_the_middleware(
    serve: Callable[..., TestApp], spans: RecordedSpans
) -> None:
    app = in_middleware(serve(ping, pyramid__tweens=f"{SERVER_SPAN_TWEEN} {EXCVIEW}"))
    spans.clear()
    app.get("/path/1")
    assert [span.name for span in spans.all][1:] == ["foo.PING"]
    tweens = f"{SERVER_SPAN_TWEEN} {TOTALS_TWEEN} {EXCVIEW}"
    app = in_middleware(serve(ping, pyramid__tweens=tweens))
    spans.clear()
    app.get("/path/1")
    assert len(spans.all) == 1
    assert operations_of(server_span(spans)) == 1


# OpenTelemetry's instrumentation of Pyramid


@pytest.mark.parametrize("way", ["instrument", "instrument_config"])
def test_the_span_of_opentelemetry_s_tween_gets_the_totals(
    serve: Callable[..., TestApp],
    spans: RecordedSpans,
    request: pytest.FixtureRequest,
    way: str,
) -> None:
    def set_up(config: Configurator) -> None:
        if way == "instrument_config":
            PyramidInstrumentor().instrument_config(config)

    if way == "instrument":
        request.getfixturevalue("instrumented")
    app = serve(ping, set_up)
    spans.clear()
    app.get("/path/1")
    assert len(spans.all) == 1
    assert operations_of(server_span(spans)) == 1


@pytest.mark.usefixtures("instrumented")
def test_other_spans_and_clients_in_opentelemetry_s_tween_change_nothing(
    serve: Callable[..., TestApp], spans: RecordedSpans
) -> None:
    def view(request: Request) -> Response:
        with tracer.start_as_current_span("local"):
            request.foo.ping()
        factory = request.registry.getUtility(IRedisContextFactory, "foo")
        factory.make_object_for_context("foo", None).ping()
        return Response("hello")

    app = serve(view)
    spans.clear()
    app.get("/path/1")
    assert [span.name for span in spans.all][1:] == ["local"]
    assert operations_of(server_span(spans)) == 2


@pytest.mark.usefixtures("instrumented")
def test_after_opentelemetry_s_tween_every_command_has_a_span(
    serve: Callable[..., TestApp], spans: RecordedSpans
) -> None:
    app = serve(
        stream,
        lambda config: config.add_tween(f"{__name__}.ping_after", over=OPENTELEMETRY_TWEEN),
    )
    spans.clear()
    assert app.get("/path/1").text == "hello"
    request = server_span(spans)
    assert operations_of(request) == 1
    assert [span.name for span in spans.all] == [request.name, *["foo.PING"] * 3]
    assert all(spans.parent_of(span) == request for span in spans.all[1:])


@pytest.mark.usefixtures("instrumented")
def test_a_request_that_fails_has_totals_on_the_span_of_opentelemetry_s_tween(
    serve: Callable[..., TestApp], spans: RecordedSpans
) -> None:
    def view(request: Request) -> Response:
        request.foo.ping()
        raise ValueError

    app = serve(view)
    spans.clear()
    with pytest.raises(ValueError):  # noqa: PT011 (it has no text)
        app.get("/path/1")
    assert len(spans.all) == 1
    assert operations_of(server_span(spans)) == 1


@pytest.mark.usefixtures("instrumented")
@pytest.mark.parametrize("use_tweens", [False, True])
def test_a_subrequest_in_opentelemetry_s_tween_is_counted_once(
    serve: Callable[..., TestApp], spans: RecordedSpans, use_tweens: bool
) -> None:
    def view(request: Request) -> Response:
        request.foo.ping()
        if request.matchdict["name"] == "inner":
            return Response("hello")
        subrequest = Request.blank("/path/inner")
        return request.invoke_subrequest(subrequest, use_tweens=use_tweens)

    app = serve(view)
    spans.clear()
    app.get("/path/outer")
    assert [span.name for span in spans.all if span.name == "foo.PING"] == []
    assert sum(operations_of(span) for span in spans.all) == 2


@pytest.mark.usefixtures("instrumented")
def test_with_both_instrumentations_the_outer_span_gets_the_totals(
    serve: Callable[..., TestApp], spans: RecordedSpans
) -> None:
    app = in_middleware(serve(stream))
    spans.clear()
    assert app.get("/path/1").text == "hello"
    assert len(spans.all) == 2
    assert operations_of(server_span(spans)) == 3


@pytest.mark.usefixtures("instrumented")
def test_opentelemetry_s_explicit_tweens_need_the_second_one(
    serve: Callable[..., TestApp], spans: RecordedSpans
) -> None:
    app = serve(ping, pyramid__tweens=f"{SERVER_SPAN_TWEEN} {EXCVIEW}")
    spans.clear()
    app.get("/path/1")
    assert [span.name for span in spans.all][1:] == ["foo.PING"]
    assert operations_of(server_span(spans)) == 0


# Outside of requests


def test_scripts_without_tweens_have_a_span_for_every_command(
    serve: Callable[..., TestApp], spans: RecordedSpans
) -> None:
    app = serve(ping)
    spans.clear()
    with prepare(registry=app.app.registry) as env:
        env["request"].foo.ping()
    with server_context(app.app.registry, "nightly") as context:
        context.foo.ping()
    assert spans.tree() == [("foo.PING", None), ("nightly", None), ("foo.PING", "nightly")]


def test_a_message_s_commands_are_counted_on_its_process_span(
    serve: Callable[..., TestApp], spans: RecordedSpans
) -> None:
    stop = Event()

    def handle(context: Any, message: Any) -> None:
        stop.set()
        with tracer.start_as_current_span("local"):
            context.foo.ping()

    app = serve(ping, jobs__queue="foo", jobs__durable="true")
    registry = app.app.registry
    with prepare(registry=registry) as env:
        env["request"].jobs.put("a message")
        spans.clear()
        assert work(registry, "jobs", handle, stop=stop) == FINISHED
    assert "foo.PING" not in spans.names
    assert operations_of(spans.one("process jobs")) == 2  # with the acknowledgement


def test_a_dummy_request_has_totals(serve: Callable[..., TestApp], spans: RecordedSpans) -> None:
    app = serve(ping)
    spans.clear()
    with dummy_request(app) as request:
        request.foo.ping()
    assert counted(spans) == {"GET": 1}


# Without the setting


def test_without_the_setting_there_is_no_tween(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(request_totals, "_is_enabled", False)
    assert request_totals_tween_factory(hello, None) is hello
