"""request.foo and request.span: one object for the whole request, wherever it is used."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from opentelemetry import trace
from opentelemetry.trace import SpanKind
from pyramid.config import Configurator
from pyramid.events import NewRequest, NewResponse
from pyramid.request import Request, apply_request_extensions
from pyramid.response import Response
from pyramid.scripting import prepare
from pyramid.testing import DummyRequest
from webtest import TestApp

from pyramid_baseplate_redis import MessageQueue, MonitoredRedisConnection
from pyramid_baseplate_redis.web.tween import SERVER_SPAN_TWEEN

from ..support.servers import RecordedSpans, Server

MakeConfig = Callable[..., Configurator]
Handler = Callable[[Request], Response]
SERVER = "GET /page"


class Seen:
    """The clients that the parts of an application found on their requests."""

    def __init__(self) -> None:
        self.clients: list[tuple[str, MonitoredRedisConnection]] = []

    def __call__(self, place: str, request: Request) -> None:
        """Note the request's client, and send a command that names the place."""
        self.clients.append((place, request.foo))
        request.foo.echo(place)

    @property
    def places(self) -> list[str]:
        return [place for place, _ in self.clients]

    @property
    def objects(self) -> set[int]:
        return {id(client) for _, client in self.clients}


@pytest.fixture
def seen() -> Seen:
    return Seen()


@pytest.fixture
def config(make_config: MakeConfig, valkey: Server) -> Configurator:
    config = make_config(foo__url=valkey.url)
    config.add_route("page", "/page")
    return config


def serve(config: Configurator, view: Callable[[Request], Any]) -> TestApp:
    config.add_view(view, route_name="page")
    return TestApp(config.make_wsgi_app())


def outer_tween_factory(handler: Handler, registry: Any) -> Handler:
    """Notes the client before and after whatever is below it."""

    def tween(request: Request) -> Response:
        registry["seen"]("before", request)
        response = handler(request)
        registry["seen"]("after", request)
        return response

    return tween


def all_under(spans: RecordedSpans, name: str) -> bool:
    return {parent for child, parent in spans.tree() if child != name} == {name}


# One object for the whole request


def test_the_client_is_made_on_first_use_and_kept(config: Configurator) -> None:
    def view(request: Request) -> Response:
        before = "foo" in vars(request)
        return Response(f"{before} {request.foo is request.foo}")

    assert serve(config, view).get("/page").text == "False True"


def test_the_client_belongs_to_the_request_s_span(config: Configurator) -> None:
    def view(request: Request) -> Response:
        return Response(str(request.foo.server_span is request.span))

    assert serve(config, view).get("/page").text == "True"


def test_the_span_is_the_server_span(config: Configurator, spans: RecordedSpans) -> None:
    def view(request: Request) -> Response:
        return Response(f"{request.span.get_span_context().span_id:016x}")

    text = serve(config, view).get("/page").text
    assert f"{spans.one(SERVER).context.span_id:016x}" == text


def test_a_new_request_has_a_new_client_on_the_same_pool(config: Configurator, seen: Seen) -> None:
    def view(request: Request) -> Response:
        seen("view", request)
        return Response()

    app = serve(config, view)
    app.get("/page")
    app.get("/page")
    (_, one), (_, other) = seen.clients
    assert one is not other
    assert one.connection_pool is other.connection_pool


def test_requests_one_after_another_use_one_connection(config: Configurator) -> None:
    app = serve(config, lambda request: Response(str(request.foo.client_id())))
    assert len({app.get("/page").text for _ in range(5)}) == 1


def test_a_command_belongs_to_its_own_request(config: Configurator, spans: RecordedSpans) -> None:
    app = serve(config, lambda request: Response(str(request.foo.ping())))
    app.get("/page")
    app.get("/page")
    parents = [span.parent.span_id for span in spans.named("foo.PING") if span.parent]
    assert parents == [span.context.span_id for span in spans.named(SERVER)]


def test_clients_side_by_side_are_apart(
    make_config: MakeConfig, valkey: Server, spans: RecordedSpans
) -> None:
    config = make_config(foo__url=valkey.url, sessions__url=valkey.url.replace("/0", "/1"))
    config.add_route("page", "/page")

    def view(request: Request) -> Response:
        request.foo.set("key", "of foo")
        return Response(str(request.sessions.get("key")))

    assert serve(config, view).get("/page").text == "None"
    assert spans.names == [SERVER, "foo.SET", "sessions.GET"]


def test_a_request_and_its_client_are_freed(config: Configurator) -> None:
    """Nothing process-wide keeps the first request's client."""
    kept: list[weakref.ref[Any]] = []

    def view(request: Request) -> Response:
        kept.extend([weakref.ref(request), weakref.ref(request.foo)])
        with request.foo.lock("lock", timeout=5), request.foo.pipeline("some") as pipeline:
            pipeline.ping().execute()
        request.foo.register_script("return 1")()
        return Response()

    serve(config, view).get("/page")
    gc.collect()
    assert [reference() for reference in kept] == [None, None]


# Everywhere in a request


def test_a_tween_under_ours_has_the_view_s_client(
    config: Configurator, seen: Seen, spans: RecordedSpans
) -> None:
    config.registry["seen"] = seen
    config.add_tween(f"{__name__}.outer_tween_factory", under=SERVER_SPAN_TWEEN)

    def view(request: Request) -> Response:
        seen("view", request)
        return Response()

    serve(config, view).get("/page")
    assert (seen.places, len(seen.objects)) == (["before", "view", "after"], 1)
    assert all_under(spans, SERVER)


def test_a_tween_over_ours_has_the_view_s_client(config: Configurator, seen: Seen) -> None:
    config.registry["seen"] = seen
    config.add_tween(f"{__name__}.outer_tween_factory", over=SERVER_SPAN_TWEEN)

    def view(request: Request) -> Response:
        seen("view", request)
        return Response()

    serve(config, view).get("/page")
    assert (seen.places, len(seen.objects)) == (["before", "view", "after"], 1)


def test_a_tween_over_ours_is_under_the_span_once_it_has_begun(
    config: Configurator, seen: Seen, spans: RecordedSpans
) -> None:
    """The client is older than the span: the tween used it before."""
    config.registry["seen"] = seen
    config.add_tween(f"{__name__}.outer_tween_factory", over=SERVER_SPAN_TWEEN)
    serve(config, lambda request: Response()).get("/page")
    assert spans.tree() == [("foo.ECHO", None), (SERVER, None), ("foo.ECHO", SERVER)]


def test_a_queue_made_before_the_span_is_under_it_once_it_has_begun(
    config: Configurator, spans: RecordedSpans
) -> None:
    config.add_message_queue("jobs")
    config.registry["seen"] = lambda place, request: request.jobs.put(place)
    config.add_tween(f"{__name__}.outer_tween_factory", over=SERVER_SPAN_TWEEN)

    def view(request: Request) -> Response:
        request.add_finished_callback(lambda request: request.jobs.get(1))
        return Response()

    serve(config, view).get("/page")
    assert spans.parent_of(spans.one("foo.BLPOP")) == spans.one(SERVER)


def test_an_exception_view_has_the_view_s_client(
    config: Configurator, seen: Seen, spans: RecordedSpans
) -> None:
    def view(request: Request) -> Response:
        seen("view", request)
        raise LookupError

    def exception_view(request: Request) -> Response:
        seen("exception view", request)
        return Response()

    config.add_exception_view(exception_view, context=LookupError)
    serve(config, view).get("/page")
    assert (seen.places, len(seen.objects)) == (["view", "exception view"], 1)
    assert all_under(spans, SERVER)


def test_events_and_callbacks_have_the_view_s_client(
    config: Configurator, seen: Seen, spans: RecordedSpans
) -> None:
    config.add_subscriber(lambda event: seen("new request", event.request), NewRequest)
    config.add_subscriber(lambda event: seen("new response", event.request), NewResponse)

    def view(request: Request) -> Response:
        request.add_response_callback(lambda request, _: seen("response callback", request))
        request.add_finished_callback(lambda request: seen("finished callback", request))
        seen("view", request)
        return Response()

    serve(config, view).get("/page")
    assert seen.places == [
        "new request", "view", "response callback", "new response", "finished callback",
    ]  # fmt: skip
    assert len(seen.objects) == 1
    assert all_under(spans, SERVER)


def test_a_finished_callback_after_an_exception_is_under_the_span(
    config: Configurator, seen: Seen, spans: RecordedSpans
) -> None:
    def view(request: Request) -> Response:
        request.add_finished_callback(lambda request: seen("finished callback", request))
        raise LookupError

    with pytest.raises(LookupError):
        serve(config, view).get("/page")
    assert spans.tree() == [(SERVER, None), ("foo.ECHO", SERVER)]


def test_a_streamed_body_has_the_view_s_client(
    config: Configurator, seen: Seen, spans: RecordedSpans
) -> None:
    def body(request: Request) -> Iterator[bytes]:
        for chunk in (b"a", b"b"):
            seen("body", request)
            yield chunk

    def view(request: Request) -> Response:
        seen("view", request)
        return Response(app_iter=body(request))

    assert serve(config, view).get("/page").body == b"ab"
    assert (seen.places, len(seen.objects)) == (["view", "body", "body"], 1)
    assert all_under(spans, SERVER)


def test_a_streamed_body_s_commands_end_before_its_span(
    config: Configurator, seen: Seen, spans: RecordedSpans
) -> None:
    def body(request: Request) -> Iterator[bytes]:
        yield b"a"
        seen("body", request)

    serve(config, lambda request: Response(app_iter=body(request))).get("/page")
    assert (spans.one("foo.ECHO").end_time or 0) <= (spans.one(SERVER).end_time or 0)


@pytest.mark.parametrize("use_tweens", [False, True])
def test_a_subrequest_has_a_client_of_its_own_in_the_same_trace(
    config: Configurator, seen: Seen, spans: RecordedSpans, use_tweens: bool
) -> None:
    def inner(request: Request) -> Response:
        seen("inner", request)
        return Response()

    def outer(request: Request) -> Response:
        seen("outer", request)
        request.invoke_subrequest(Request.blank("/inner"), use_tweens=use_tweens)
        seen("outer again", request)
        return Response()

    config.add_route("inner", "/inner")
    config.add_view(inner, route_name="inner")
    serve(config, outer).get("/page")
    (_, first), (_, inner_client), (_, again) = seen.clients
    assert first is again
    assert inner_client is not first
    assert spans.tree() == [(SERVER, None)] + [("foo.ECHO", SERVER)] * 3


@pytest.mark.parametrize("use_tweens", [False, True])
def test_a_subrequest_s_span_is_the_request_s(config: Configurator, use_tweens: bool) -> None:
    def view(request: Request) -> Response:
        if "inner" in request.params:
            return Response(str(request.span.get_span_context().span_id))
        inner = request.invoke_subrequest(Request.blank("/page?inner"), use_tweens=use_tweens)
        return Response(str(inner.text == str(request.span.get_span_context().span_id)))

    assert serve(config, view).get("/page").text == "True"


def test_a_local_span_in_the_view_is_the_parent(config: Configurator, spans: RecordedSpans) -> None:
    def view(request: Request) -> Response:
        with trace.get_tracer(__name__).start_as_current_span("local"):
            request.foo.ping()
        return Response()

    serve(config, view).get("/page")
    assert spans.tree() == [(SERVER, None), ("local", SERVER), ("foo.PING", "local")]


def test_commands_of_a_thread_without_a_context_belong_to_the_request(
    config: Configurator, spans: RecordedSpans
) -> None:
    def view(request: Request) -> Response:
        threads = [threading.Thread(target=request.foo.ping) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return Response()

    serve(config, view).get("/page")
    assert spans.tree() == [(SERVER, None)] + [("foo.PING", SERVER)] * 3


def test_a_thread_that_outlives_the_request_still_belongs_to_it(
    config: Configurator, spans: RecordedSpans
) -> None:
    response_is_sent = threading.Event()
    threads = []

    def late(client: MonitoredRedisConnection) -> None:
        response_is_sent.wait(10)
        client.ping()

    def view(request: Request) -> Response:
        threads.append(threading.Thread(target=late, args=(request.foo,)))
        threads[0].start()
        return Response()

    serve(config, view).get("/page")
    response_is_sent.set()
    threads[0].join()
    assert spans.tree() == [(SERVER, None), ("foo.PING", SERVER)]


def test_a_queue_belongs_to_the_request(config: Configurator, spans: RecordedSpans) -> None:
    config.add_message_queue("jobs")

    def view(request: Request) -> Response:
        request.jobs.put("work")
        return Response(f"{type(request.jobs) is MessageQueue} {request.jobs is request.jobs}")

    assert serve(config, view).get("/page").text == "True True"
    assert spans.tree() == [(SERVER, None), ("foo.RPUSH", SERVER)]


def test_a_client_that_the_server_refuses_is_still_there_for_the_exception_view(
    make_config: MakeConfig, spans: RecordedSpans
) -> None:
    """Port 1 of the loopback interface: nobody listens."""
    config = make_config(foo__url="redis://127.0.0.1:1")
    config.add_route("page", "/page")

    def exception_view(error: Exception, request: Request) -> Response:
        return Response(str(isinstance(request.foo, redis.Redis)))

    config.add_exception_view(exception_view, context=redis.ConnectionError)
    app = serve(config, lambda request: Response(str(request.foo.ping())))
    assert app.get("/page").text == "True"
    assert spans.tree() == [(SERVER, None), ("foo.PING", SERVER)]


# Without a tween


def test_a_prepared_script_has_a_client(
    config: Configurator, seen: Seen, spans: RecordedSpans
) -> None:
    config.make_wsgi_app()
    with prepare(registry=config.registry) as environment:
        request = environment["request"]
        request.add_finished_callback(lambda request: seen("finished callback", request))
        seen("script", request)
    assert (seen.places, len(seen.objects)) == (["script", "finished callback"], 1)
    assert spans.tree() == [("foo.ECHO", None)] * 2


def test_a_prepared_script_s_commands_are_under_its_own_span(
    config: Configurator, spans: RecordedSpans
) -> None:
    config.make_wsgi_app()
    span = trace.get_tracer(__name__).start_as_current_span("script")
    with span, prepare(registry=config.registry) as environment:
        environment["request"].foo.ping()
    assert spans.tree() == [("script", None), ("foo.PING", "script")]


def test_a_dummy_request_has_a_client_after_its_extensions_were_applied(
    config: Configurator, valkey: Server
) -> None:
    config.make_wsgi_app()
    request = DummyRequest()
    request.registry = config.registry
    apply_request_extensions(request)
    request.foo.set("key", "value")
    assert request.foo is request.foo
    assert request.foo.get("key") == b"value"


def test_a_dummy_request_s_client_may_be_replaced(config: Configurator) -> None:
    config.make_wsgi_app()
    request = DummyRequest()
    request.registry = config.registry
    apply_request_extensions(request)
    request.foo = "another"
    assert request.foo == "another"


APPLICATION = '''
"""An application for pshell."""

from pyramid.config import Configurator


def main(global_config, **settings):
    config = Configurator(settings=settings)
    config.include("pyramid_baseplate_redis")
    return config.make_wsgi_app()
'''


def test_pshell_has_a_client(tmp_path: Path, valkey: Server) -> None:
    (tmp_path / "shell_app.py").write_text(APPLICATION)
    ini = tmp_path / "shell.ini"
    ini.write_text(f"[app:main]\nuse = call:shell_app:main\nfoo.url = {valkey.url}\n")
    script = "print(request.foo.set('key', 'value'), request.foo.get('key'), request.foo is foo)"
    run = subprocess.run(
        [sys.executable, "-m", "pyramid.scripts.pshell", "--python-shell", "python", str(ini)],
        input=f"foo = request.foo\n{script}\n",
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert "True b'value' True" in run.stdout


def test_the_server_span_is_not_needed(
    make_config: MakeConfig, valkey: Server, spans: RecordedSpans
) -> None:
    config = make_config(foo__url=valkey.url, baseplate_redis__server_span="never")
    config.add_route("page", "/page")
    app = serve(config, lambda request: Response(str(request.foo.ping())))
    assert app.get("/page").text == "True"
    assert [span.kind for span in spans.all] == [SpanKind.CLIENT]
