"""The status of a server span; broken telemetry does not break a request."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import textwrap
from collections.abc import Callable
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.trace import StatusCode
from pyramid.config import Configurator
from pyramid.events import NewResponse
from pyramid.httpexceptions import exception_response
from pyramid.request import Request
from pyramid.response import Response
from webtest import TestApp

from pyramid_baseplate_redis.web.tween import SERVER_SPAN_TWEEN

from ..support.servers import RecordedSpans, Server, attributes
from ..support.views import Body, fail, hello, ping, server_span, streaming

View = Callable[[Request], Any]


# Status


@pytest.mark.parametrize("status", [200, 204, 301, 404, 422])
def test_a_response_below_500_leaves_the_status_unset(
    serve: Callable[..., TestApp], spans: RecordedSpans, status: int
) -> None:
    serve(lambda request: Response(status=status)).get("/path/1", status=status)
    span = server_span(spans)
    assert span.status.status_code is StatusCode.UNSET
    assert attributes(span)["http.response.status_code"] == status


@pytest.mark.parametrize("status", [500, 503])
def test_a_response_from_500_on_is_an_error(
    serve: Callable[..., TestApp], spans: RecordedSpans, status: int
) -> None:
    serve(lambda request: Response(status=status)).get("/path/1", status=status)
    span = server_span(spans)
    assert span.status.status_code is StatusCode.ERROR
    assert attributes(span)["error.type"] == str(status)
    assert attributes(span)["http.response.status_code"] == status


@pytest.mark.parametrize("status", [302, 403, 404])
def test_a_raised_http_exception_below_500_leaves_the_status_unset(
    serve: Callable[..., TestApp], spans: RecordedSpans, status: int
) -> None:
    def view(request: Request) -> Response:
        raise exception_response(status)

    serve(view).get("/path/1", status=status)
    span = server_span(spans)
    assert span.status.status_code is StatusCode.UNSET
    assert attributes(span)["http.response.status_code"] == status
    assert "error.type" not in attributes(span)


def test_a_raised_http_exception_from_500_on_is_an_error(
    serve: Callable[..., TestApp], spans: RecordedSpans
) -> None:
    def view(request: Request) -> Response:
        raise exception_response(503)

    serve(view).get("/path/1", status=503)
    span = server_span(spans)
    assert span.status.status_code is StatusCode.ERROR
    assert attributes(span)["error.type"] == "pyramid.httpexceptions.HTTPServiceUnavailable"


def test_an_exception_without_a_view_is_an_error_and_goes_on(
    serve: Callable[..., TestApp], spans: RecordedSpans
) -> None:
    with pytest.raises(ValueError, match="a secret"):
        serve(fail).get("/path/1")
    span = server_span(spans)
    assert span.status.status_code is StatusCode.ERROR
    assert attributes(span)["error.type"] == "ValueError"
    assert attributes(span)["http.response.status_code"] == 500
    assert attributes(span)["http.route"] == "/path/{name}"


def test_an_exception_s_text_is_nowhere_in_the_span(
    serve: Callable[..., TestApp], spans: RecordedSpans
) -> None:
    with pytest.raises(ValueError, match="a secret"):
        serve(fail).get("/path/1")
    assert "a secret" not in server_span(spans).to_json()


@pytest.mark.parametrize(("status", "code"), [(502, StatusCode.ERROR), (409, StatusCode.UNSET)])
def test_an_exception_view_decides_the_status(
    serve: Callable[..., TestApp], spans: RecordedSpans, status: int, code: StatusCode
) -> None:
    def prepare(config: Configurator) -> None:
        config.add_exception_view(lambda request: Response(status=status), context=ValueError)

    serve(fail, prepare).get("/path/1", status=status)
    span = server_span(spans)
    assert span.status.status_code is code
    assert attributes(span)["http.response.status_code"] == status
    assert attributes(span).get("error.type") == ("ValueError" if status == 502 else None)


def test_a_response_callback_s_status_is_the_span_s(
    serve: Callable[..., TestApp], spans: RecordedSpans
) -> None:
    def view(request: Request) -> Response:
        request.add_response_callback(lambda request, response: setattr(response, "status", 503))
        return Response("hello")

    serve(view).get("/path/1", status=503)
    span = server_span(spans)
    assert attributes(span)["http.response.status_code"] == 503
    assert span.status.status_code is StatusCode.ERROR


def test_a_response_callback_that_raises_is_an_error(
    serve: Callable[..., TestApp], spans: RecordedSpans
) -> None:
    def callback(request: Request, response: Response) -> None:
        raise LookupError("no such thing")

    def view(request: Request) -> Response:
        request.add_response_callback(callback)
        return Response("hello")

    with pytest.raises(LookupError, match="no such thing"):
        serve(view).get("/path/1")
    span = server_span(spans)
    assert span.status.status_code is StatusCode.ERROR
    assert attributes(span)["error.type"] == "LookupError"


def test_a_response_subscriber_that_raises_is_an_error(
    serve: Callable[..., TestApp], spans: RecordedSpans
) -> None:
    def subscriber(event: NewResponse) -> None:
        raise LookupError("no such thing")

    with pytest.raises(LookupError, match="no such thing"):
        serve(hello, lambda config: config.add_subscriber(subscriber, NewResponse)).get("/path/1")
    assert server_span(spans).status.status_code is StatusCode.ERROR


def test_a_finished_callback_that_raises_still_ends_the_span(
    serve: Callable[..., TestApp], spans: RecordedSpans
) -> None:
    def callback(request: Request) -> None:
        raise LookupError("no such thing")

    def view(request: Request) -> Response:
        request.add_finished_callback(callback)
        return Response("hello")

    with pytest.raises(LookupError, match="no such thing"):
        serve(view).get("/path/1")
    gc.collect()  # nobody has the body any more
    assert server_span(spans).name == "GET /path/{name}"


def raising_tween_factory(handler: View, registry: object) -> View:
    """A tween over the server span's that fails after the response."""

    def tween(request: Request) -> Any:
        handler(request)
        raise LookupError("no such thing")

    return tween


def replacing_tween_factory(handler: View, registry: object) -> View:
    """A tween over the server span's that answers something else."""

    def tween(request: Request) -> Any:
        handler(request)
        return Response("else", status=502)

    return tween


def over_ours(tween: str) -> Callable[[Configurator], None]:
    def prepare(config: Configurator) -> None:
        config.add_tween(f"{__name__}.{tween}", over=SERVER_SPAN_TWEEN)

    return prepare


def test_an_outer_tween_that_raises_is_an_error(
    serve: Callable[..., TestApp], spans: RecordedSpans
) -> None:
    with pytest.raises(LookupError, match="no such thing"):
        serve(hello, over_ours("raising_tween_factory")).get("/path/1")
    span = server_span(spans)
    assert span.status.status_code is StatusCode.ERROR
    assert attributes(span)["error.type"] == "LookupError"


def test_an_outer_tween_that_answers_something_else_lets_the_span_end(
    serve: Callable[..., TestApp], spans: RecordedSpans
) -> None:
    serve(hello, over_ours("replacing_tween_factory")).get("/path/1", status=502)
    gc.collect()  # the replaced response may be in a reference cycle
    assert server_span(spans).name == "GET /path/{name}"


def test_an_outer_tween_that_answers_something_else_decides_the_status(
    serve: Callable[..., TestApp], spans: RecordedSpans
) -> None:
    serve(hello, over_ours("replacing_tween_factory")).get("/path/1", status=502)
    gc.collect()
    assert attributes(server_span(spans))["http.response.status_code"] == 502


# Telemetry that fails


class Raising(SpanProcessor):
    """A span processor that fails, while it is switched on."""

    on = ""

    def on_start(self, span: Any, parent_context: Any = None) -> None:
        if self.on == "start":
            raise OSError("the collector is away")

    def on_end(self, span: Any) -> None:
        if self.on == "end":
            raise OSError("the collector is away")


@pytest.fixture(scope="module")
def raising() -> Raising:
    processor = Raising()
    provider = trace.get_tracer_provider()
    assert isinstance(provider, TracerProvider)
    provider.add_span_processor(processor)  # for good: there is no way to take it out again
    return processor


@pytest.mark.parametrize("moment", ["start", "end"])
@pytest.mark.parametrize("view", [ping, streaming(Body(b"hel", b"lo"))])
def test_a_span_processor_that_raises_does_not_break_a_request(
    serve: Callable[..., TestApp],
    raising: Raising,
    monkeypatch: pytest.MonkeyPatch,
    view: View,
    moment: str,
) -> None:
    app = serve(view)
    monkeypatch.setattr(raising, "on", moment)
    assert app.get("/path/1").text == "hello"


def test_a_sampler_that_raises_does_not_break_a_request(valkey: Server) -> None:
    """In a process of its own: OpenTelemetry takes one provider per process."""
    script = """
    import os
    from opentelemetry import trace
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.sampling import Sampler
    from pyramid.config import Configurator
    from pyramid.response import Response
    from webtest import TestApp

    class Raising(Sampler):
        def should_sample(self, *args, **kwargs):
            raise OSError("the collector is away")

        def get_description(self):
            return "raising"

    trace.set_tracer_provider(TracerProvider(sampler=Raising()))
    config = Configurator(settings={"foo.url": os.environ["REDIS_URL"]})
    config.include("pyramid_baseplate_redis")
    config.add_route("path", "/")
    config.add_view(lambda request: Response(str(request.foo.ping())), route_name="path")
    print(TestApp(config.make_wsgi_app()).get("/").text)
    """
    assert output_of(script, valkey) == "True\n"


def test_without_an_sdk_there_is_no_server_span_and_nothing_breaks(valkey: Server) -> None:
    script = """
    import os
    from pyramid.config import Configurator
    from pyramid.response import Response
    from webtest import TestApp

    def view(request):
        return Response(f"{request.foo.ping()} {request.span.get_span_context().is_valid}")

    config = Configurator(settings={"foo.url": os.environ["REDIS_URL"]})
    config.include("pyramid_baseplate_redis")
    config.add_route("path", "/")
    config.add_view(view, route_name="path")
    print(TestApp(config.make_wsgi_app()).get("/").text)
    """
    assert output_of(script, valkey) == "True False\n"


def output_of(script: str, valkey: Server) -> str:
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        env={**os.environ, "REDIS_URL": valkey.url},
        stdout=subprocess.PIPE,
        text=True,
        timeout=60,
        check=True,
    ).stdout
