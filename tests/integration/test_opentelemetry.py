"""Beside OpenTelemetry's own instrumentation: one SERVER span a request, one span a command."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.instrumentation.pyramid import PyramidInstrumentor
from opentelemetry.instrumentation.redis import RedisInstrumentor
from opentelemetry.instrumentation.wsgi import OpenTelemetryMiddleware
from opentelemetry.metrics import NoOpMeterProvider
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import SpanKind
from pyramid.config import Configurator
from pyramid.httpexceptions import HTTPNotFound
from pyramid.request import Request
from pyramid.response import Response
from webtest import TestApp

from pyramid_baseplate_redis.web.tween import SERVER_SPAN_TWEEN

from ..support.servers import RecordedSpans, Server
from ..support.totals import FAST, operations_of

Handler = Callable[[Request], Response]
OPENTELEMETRY_TWEEN = "opentelemetry.instrumentation.pyramid.trace_tween_factory"
EXCVIEW = "pyramid.tweens.excview_tween_factory"

# Where the commands of one request are sent from, in this order.
PLACES = ["view", "over excview", "over all", "finished callback", "body"]


@pytest.fixture(params=["", "instrument", "instrument_config"])
def pyramid(request: pytest.FixtureRequest) -> Iterator[str]:
    """How OpenTelemetry's Pyramid instrumentation is switched on, if it is."""
    if request.param == "instrument":
        PyramidInstrumentor().instrument()
    yield request.param
    if request.param == "instrument":
        PyramidInstrumentor().uninstrument()


@pytest.fixture(params=["", "middleware"])
def wsgi(request: pytest.FixtureRequest) -> str:
    """Whether OpenTelemetry's WSGI middleware is around the application."""
    return str(request.param)


@pytest.fixture(params=["", "redis"])
def redis_instrumentation(request: pytest.FixtureRequest) -> Iterator[str]:
    """Whether OpenTelemetry's redis instrumentation is on."""
    if request.param:
        RedisInstrumentor().instrument()
    yield request.param
    if request.param:
        RedisInstrumentor().uninstrument()


def over_excview_factory(handler: Handler, registry: Any) -> Handler:
    """A command after the response, in a tween under the server span's."""

    def tween(request: Request) -> Response:
        response = handler(request)
        request.foo.echo("over excview")
        return response

    return tween


def over_all_factory(handler: Handler, registry: Any) -> Handler:
    """A command after the response, in a tween over all others."""
    early = "early" in registry.settings

    def tween(request: Request) -> Response:
        if early:
            request.foo  # noqa: B018 (this makes it)
        response = handler(request)
        request.foo.echo("over all")
        return response

    return tween


def body(request: Request) -> Iterator[bytes]:
    yield b"hel"
    request.foo.echo("body")
    yield b"lo"


def page(request: Request) -> Response:
    request.add_finished_callback(lambda request: request.foo.echo("finished callback"))
    request.foo.echo("view")
    return Response(app_iter=body(request))


def serve(
    valkey: Server,
    pyramid: str,
    wsgi: str,
    view: Callable[[Request], Any] = page,
    **settings: str,
) -> TestApp:
    dotted = {key.replace("__", "."): value for key, value in settings.items()}
    config = Configurator(settings={"foo.url": valkey.url, **dotted})
    config.include("pyramid_baseplate_redis")
    if pyramid == "instrument_config":
        PyramidInstrumentor().instrument_config(config)
    config.add_tween(f"{__name__}.over_excview_factory", over=EXCVIEW, under=SERVER_SPAN_TWEEN)
    config.add_tween(
        f"{__name__}.over_all_factory",
        over=(SERVER_SPAN_TWEEN, OPENTELEMETRY_TWEEN, f"{__name__}.over_excview_factory"),
    )
    config.add_route("page", "/page/{name}")
    config.add_view(view, route_name="page")
    app = config.make_wsgi_app()
    if wsgi:
        app = OpenTelemetryMiddleware(app, meter_provider=NoOpMeterProvider())
    return TestApp(app)


def ancestors(spans: RecordedSpans, span: ReadableSpan) -> list[ReadableSpan]:
    parent = spans.parent_of(span)
    return [] if parent is None else [parent, *ancestors(spans, parent)]


def of_kind(spans: RecordedSpans, kind: SpanKind) -> list[ReadableSpan]:
    return [span for span in spans.all if span.kind is kind]


def test_each_request_has_one_server_span(
    valkey: Server, spans: RecordedSpans, pyramid: str, wsgi: str
) -> None:
    app = serve(valkey, pyramid, wsgi)
    for _ in range(2):
        app.get("/page/1")
    assert len(of_kind(spans, SpanKind.SERVER)) == 2
    assert [span.parent for span in of_kind(spans, SpanKind.SERVER)] == [None, None]


def test_each_command_has_one_span_under_the_server_span(
    valkey: Server, spans: RecordedSpans, pyramid: str, wsgi: str, redis_instrumentation: str
) -> None:
    assert serve(valkey, pyramid, wsgi).get("/page/1").text == "hello"
    (server,) = of_kind(spans, SpanKind.SERVER)
    commands = of_kind(spans, SpanKind.CLIENT)
    assert [span.name for span in commands] == ["foo.ECHO"] * len(PLACES)
    assert all(ancestors(spans, span)[-1] == server for span in commands)


@pytest.mark.parametrize("early", ["", "early"])
def test_with_trace_min_duration_each_command_is_counted_or_has_a_span(
    valkey: Server, spans: RecordedSpans, pyramid: str, wsgi: str, early: str
) -> None:
    settings = {"foo__trace_min_duration": FAST, **({early: "yes"} if early else {})}
    app = serve(valkey, pyramid, wsgi, **settings)
    assert app.get("/page/1").text == "hello"
    counted = [operations_of(span) for span in spans.all if operations_of(span)]
    with_span = len(spans.named("foo.ECHO"))
    assert len(counted) == 1
    assert counted[0] + with_span == len(PLACES)
    # Only the span of their Pyramid tween ends before the last command.
    assert (with_span > 0) == (pyramid != "" and wsgi == "")


def test_a_client_that_is_older_than_the_span_is_under_it_as_well(
    valkey: Server, spans: RecordedSpans, pyramid: str, wsgi: str
) -> None:
    serve(valkey, pyramid, wsgi, early="yes").get("/page/1")
    (server,) = of_kind(spans, SpanKind.SERVER)
    commands = of_kind(spans, SpanKind.CLIENT)
    assert [ancestors(spans, span)[-1:] for span in commands] == [[server]] * len(PLACES)


def test_the_request_s_span_is_one_of_theirs(
    valkey: Server, spans: RecordedSpans, pyramid: str, wsgi: str
) -> None:
    def view(request: Request) -> Response:
        return Response(f"{request.span.get_span_context().span_id:016x}")

    shown = serve(valkey, pyramid, wsgi, view).get("/page/1").text
    (server,) = of_kind(spans, SpanKind.SERVER)
    inner = [span for span in spans.all if span.kind is SpanKind.INTERNAL]
    assert shown in {f"{span.context.span_id:016x}" for span in [server, *inner]}


@pytest.mark.parametrize("error", [HTTPNotFound, ValueError])
def test_a_request_that_fails_has_one_server_span(
    valkey: Server, spans: RecordedSpans, pyramid: str, wsgi: str, error: type[Exception]
) -> None:
    def view(request: Request) -> Response:
        request.foo.ping()
        raise error

    app = serve(valkey, pyramid, wsgi, view)
    if error is ValueError:
        with pytest.raises(ValueError):  # noqa: PT011 (it has no text)
            app.get("/page/1")
    else:
        app.get("/page/1", status=404)
    (server,) = of_kind(spans, SpanKind.SERVER)
    assert ancestors(spans, spans.one("foo.PING"))[-1] == server


def test_a_path_without_a_route_has_one_server_span(
    valkey: Server, spans: RecordedSpans, pyramid: str, wsgi: str
) -> None:
    serve(valkey, pyramid, wsgi).get("/nothing", status=404)
    assert len(of_kind(spans, SpanKind.SERVER)) == 1


def test_explicit_tweens_have_one_server_span(
    valkey: Server, spans: RecordedSpans, pyramid: str, wsgi: str
) -> None:
    tweens = [SERVER_SPAN_TWEEN, EXCVIEW]
    if pyramid == "instrument_config":  # instrument() puts it there itself
        tweens.insert(1, OPENTELEMETRY_TWEEN)
    serve(valkey, pyramid, wsgi, pyramid__tweens="\n".join(tweens)).get("/page/1")
    assert len(of_kind(spans, SpanKind.SERVER)) == 1


def test_a_subrequest_adds_no_server_span(
    valkey: Server, spans: RecordedSpans, pyramid: str, wsgi: str
) -> None:
    def view(request: Request) -> Response:
        if request.matchdict["name"] == "inner":
            return Response(str(request.foo.ping()))
        return request.invoke_subrequest(Request.blank("/page/inner"), use_tweens=True)

    serve(valkey, pyramid, wsgi, view).get("/page/1")
    (server,) = of_kind(spans, SpanKind.SERVER)
    assert ancestors(spans, spans.one("foo.PING"))[-1] == server


def test_their_instrumentation_that_is_switched_off_is_replaced(
    valkey: Server, spans: RecordedSpans
) -> None:
    config = Configurator(settings={"foo.url": valkey.url})
    config.include("pyramid_baseplate_redis")
    PyramidInstrumentor().instrument_config(config)
    PyramidInstrumentor().uninstrument_config(config)
    config.add_route("page", "/page/{name}")
    config.add_view(lambda request: Response(str(request.foo.ping())), route_name="page")
    TestApp(config.make_wsgi_app()).get("/page/1")
    assert spans.tree() == [("GET /page/{name}", None), ("foo.PING", "GET /page/{name}")]


@pytest.mark.parametrize("setting", ["always", "never"])
def test_the_setting_wins_over_the_middleware(
    valkey: Server, spans: RecordedSpans, setting: str
) -> None:
    serve(valkey, "", "middleware", baseplate_redis__server_span=setting).get("/page/1")
    assert len(of_kind(spans, SpanKind.SERVER)) == {"always": 2, "never": 1}[setting]


def test_trust_in_headers_is_theirs_to_decide_where_the_span_is_theirs(
    valkey: Server, spans: RecordedSpans
) -> None:
    trace_id = "0af7651916cd43dd8448eb211c80319c"
    headers = {"traceparent": f"00-{trace_id}-b7ad6b7169203331-01"}
    serve(valkey, "", "middleware").get("/page/1", headers=headers)
    assert {f"{span.context.trace_id:032x}" for span in spans.all} == {trace_id}


@pytest.fixture
def redis_instrumented() -> Iterator[None]:
    RedisInstrumentor().instrument()
    yield
    RedisInstrumentor().uninstrument()


@pytest.mark.usefixtures("redis_instrumented")
def test_a_pipeline_has_one_span(valkey: Server, spans: RecordedSpans) -> None:
    def view(request: Request) -> Response:
        with request.foo.pipeline("both") as pipeline:
            pipeline.watch("key")
            pipeline.multi()
            pipeline.incr("key").incr("key").execute()
        return Response()

    TestApp(_plain(valkey, view)).get("/page")
    assert [span.name for span in of_kind(spans, SpanKind.CLIENT)] == [
        "foo.WATCH",
        "foo.pipeline_both",
    ]


@pytest.mark.usefixtures("redis_instrumented")
def test_locks_scripts_queues_and_subscribers_have_one_span_a_command(
    valkey: Server, spans: RecordedSpans
) -> None:
    def view(request: Request) -> Response:
        request.foo.script_flush()
        with request.foo.lock("lock", timeout=5):
            pass
        request.foo.register_script("return 1")()
        request.foo.message_queue("queue").put("message")
        request.foo.message_queue("queue").get(1)
        with request.foo.pubsub() as subscriber:
            subscriber.subscribe("channel")
        return Response()

    TestApp(_plain(valkey, view)).get("/page")
    assert [span.name for span in of_kind(spans, SpanKind.CLIENT)] == [
        "foo.SCRIPT FLUSH",
        "foo.SET",
        "foo.EVALSHA",
        "foo.SCRIPT LOAD",
        "foo.EVALSHA",
        "foo.EVALSHA",
        "foo.SCRIPT LOAD",
        "foo.EVALSHA",
        "foo.RPUSH",
        "foo.BLPOP",
        "foo.SUBSCRIBE",
    ]


@pytest.mark.usefixtures("redis_instrumented")
def test_a_plain_client_is_still_theirs(valkey: Server, spans: RecordedSpans) -> None:
    """Monitoring one pool's clients takes nothing from others."""
    import redis

    with trace.get_tracer(__name__).start_as_current_span("around"):
        redis.Redis(port=valkey.port).ping()
    assert spans.tree() == [("around", None), ("PING", "around")]


def _plain(valkey: Server, view: Callable[[Request], Any]) -> Any:
    config = Configurator(settings={"foo.url": valkey.url})
    config.include("pyramid_baseplate_redis")
    config.add_route("page", "/page")
    config.add_view(view, route_name="page")
    return config.make_wsgi_app()
