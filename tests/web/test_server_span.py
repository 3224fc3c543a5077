"""The server span of a request: its name, attributes and trace, and when there is none."""

from __future__ import annotations

from collections.abc import Callable
from urllib.parse import quote

import pytest
from opentelemetry import trace
from opentelemetry.trace import StatusCode
from pyramid.config import Configurator
from pyramid.exceptions import URLDecodeError
from pyramid.httpexceptions import HTTPException, exception_response
from pyramid.request import Request
from pyramid.response import Response
from webtest import TestApp

from pyramid_baseplate_redis.web.tween import SERVER_SPAN_TWEEN

from ..support.servers import RecordedSpans, Server, attributes
from ..support.views import hello, ping, server_span, server_spans

MakeConfig = Callable[..., Configurator]
TRACE_ID = "0af7651916cd43dd8448eb211c80319c"
PARENT_ID = "b7ad6b7169203331"
SAMPLED = {"traceparent": f"00-{TRACE_ID}-{PARENT_ID}-01"}
NOT_SAMPLED = {"traceparent": f"00-{TRACE_ID}-{PARENT_ID}-00"}


# Name and attributes


def test_the_span_is_named_after_method_and_route(
    serve: Callable[..., TestApp], spans: RecordedSpans
) -> None:
    serve(hello).get("/path/1")
    span = server_span(spans)
    assert (span.name, span.parent) == ("GET /path/{name}", None)


def test_the_span_has_the_attributes_of_the_http_conventions(
    serve: Callable[..., TestApp], spans: RecordedSpans
) -> None:
    environ = {"REMOTE_ADDR": "127.0.0.1", "HTTP_USER_AGENT": "browser/1"}
    serve(hello).get("/path/1?token=secret", extra_environ=environ)
    assert attributes(server_span(spans)) == {
        "client.address": "127.0.0.1",
        "http.request.method": "GET",
        "http.response.status_code": 200,
        "http.route": "/path/{name}",
        "network.protocol.version": "1.0",
        "server.address": "localhost",
        "server.port": 80,
        "url.path": "/path/1",
        "url.query": "token=REDACTED",
        "url.scheme": "http",
        "user_agent.original": "browser/1",
    }


@pytest.mark.parametrize(
    ("host", "scheme", "address", "port"),
    [
        ("example.org", "http", "example.org", 80),
        ("example.org", "https", "example.org", 443),
        ("example.org:8080", "http", "example.org", 8080),
        ("[::1]", "http", "::1", 80),
        ("[::1]:8080", "http", "::1", 8080),
    ],
)
def test_the_server_s_address_is_the_one_that_the_client_asked_for(
    serve: Callable[..., TestApp],
    spans: RecordedSpans,
    host: str,
    scheme: str,
    address: str,
    port: int,
) -> None:
    environ = {"HTTP_HOST": host, "wsgi.url_scheme": scheme}
    serve(hello).get("/path/1", extra_environ=environ)
    found = attributes(server_span(spans))
    assert (found["server.address"], found["server.port"]) == (address, port)


@pytest.mark.parametrize(
    ("query", "shown"),
    [
        ("a=1&b=2", "a=REDACTED&b=REDACTED"),
        ("a=1&a=2", "a=REDACTED&a=REDACTED"),
        ("q=sp%20ace%26x%3Dy", "q=REDACTED"),
        ("a=%zz", "a=REDACTED"),
    ],
)
def test_a_query_s_values_are_redacted(
    serve: Callable[..., TestApp], spans: RecordedSpans, query: str, shown: str
) -> None:
    serve(hello).get(f"/path/1?{query}")
    assert attributes(server_span(spans))["url.query"] == shown


def test_a_query_that_is_a_bare_value_is_not_shown(
    serve: Callable[..., TestApp], spans: RecordedSpans
) -> None:
    """``/reset?3f9c2a`` is how some applications pass a token."""
    serve(hello).get("/path/1?3f9c2a")
    assert "3f9c2a" not in str(attributes(server_span(spans)))


def test_a_path_beyond_ascii_is_shown_as_the_url_has_it(
    serve: Callable[..., TestApp], spans: RecordedSpans
) -> None:
    serve(hello).get("/path/caf%C3%A9")
    assert attributes(server_span(spans))["url.path"] == "/path/caf%C3%A9"


def test_the_characters_of_a_path_are_shown_as_the_url_has_them(
    serve: Callable[..., TestApp], spans: RecordedSpans
) -> None:
    app = serve(hello)
    characters = [chr(code) for code in range(1, 128) if chr(code) != "/"]
    for character in characters:
        app.get(f"/path/x{quote(character, safe='')}")
    shown = [attributes(span)["url.path"] for span in server_spans(spans)]
    unquoted = "!$&'()*+,;=:@~"  # besides letters, digits and "_.-"
    assert shown == [f"/path/x{quote(character, safe=unquoted)}" for character in characters]


def test_a_path_that_is_not_utf_8_has_a_span_too(
    serve: Callable[..., TestApp], spans: RecordedSpans
) -> None:
    with pytest.raises(URLDecodeError):  # Pyramid's own answer
        serve(hello).get("/path/%FF")
    assert attributes(server_span(spans))["error.type"] == "pyramid.exceptions.URLDecodeError"


def test_an_unknown_method_is_other(serve: Callable[..., TestApp], spans: RecordedSpans) -> None:
    serve(hello).request("/path/1", method="BREW")
    span = server_span(spans)
    assert span.name == "HTTP /path/{name}"
    assert attributes(span)["http.request.method"] == "_OTHER"
    assert attributes(span)["http.request.method_original"] == "BREW"


def test_there_is_no_route_where_none_matched(
    serve: Callable[..., TestApp], spans: RecordedSpans
) -> None:
    serve(hello).get("/nothing/here", status=404)
    span = server_span(spans)
    assert span.name == "GET"
    assert "http.route" not in attributes(span)


def test_there_is_no_route_in_traversal(
    make_config: MakeConfig, valkey: Server, spans: RecordedSpans
) -> None:
    config = make_config(foo__url=valkey.url)
    config.add_view(hello, name="page")
    TestApp(config.make_wsgi_app()).get("/page")
    span = server_span(spans)
    assert span.name == "GET"
    assert "http.route" not in attributes(span)


def test_a_route_without_a_view_is_a_route(
    make_config: MakeConfig, valkey: Server, spans: RecordedSpans
) -> None:
    config = make_config(foo__url=valkey.url)
    config.add_route("empty", "empty/{name}")
    TestApp(config.make_wsgi_app()).get("/empty/1", status=404)
    assert attributes(server_span(spans))["http.route"] == "/empty/{name}"


# One span a request


@pytest.mark.parametrize("use_tweens", [False, True])
def test_a_subrequest_has_no_server_span_of_its_own(
    serve: Callable[..., TestApp], spans: RecordedSpans, use_tweens: bool
) -> None:
    def view(request: Request) -> Response:
        if request.matchdict["name"] == "inner":
            return ping(request)
        subrequest = Request.blank("/path/inner")
        return request.invoke_subrequest(subrequest, use_tweens=use_tweens)

    serve(view).get("/path/outer")
    assert spans.tree() == [("GET /path/{name}", None), ("foo.PING", "GET /path/{name}")]


def test_each_request_has_a_trace_of_its_own(
    serve: Callable[..., TestApp], spans: RecordedSpans
) -> None:
    app = serve(hello)
    app.get("/path/1")
    app.get("/path/1")
    assert len({span.context.trace_id for span in server_spans(spans)}) == 2


def test_auto_stands_aside_for_a_current_span(
    serve: Callable[..., TestApp], spans: RecordedSpans
) -> None:
    with trace.get_tracer(__name__).start_as_current_span("around"):
        serve(ping).get("/path/1")
    assert spans.tree() == [("around", None), ("foo.PING", "around")]


def test_always_starts_a_span_below_a_current_one(
    serve: Callable[..., TestApp], spans: RecordedSpans
) -> None:
    with trace.get_tracer(__name__).start_as_current_span("around"):
        serve(ping, baseplate_redis__server_span="always").get("/path/1")
    assert spans.tree() == [
        ("around", None),
        ("GET /path/{name}", "around"),
        ("foo.PING", "GET /path/{name}"),
    ]


def test_never_starts_none(serve: Callable[..., TestApp], spans: RecordedSpans) -> None:
    serve(ping, baseplate_redis__server_span="never").get("/path/1")
    assert spans.tree() == [("foo.PING", None)]


def test_explicit_tweens_without_ours_still_have_a_client(
    serve: Callable[..., TestApp], spans: RecordedSpans
) -> None:
    serve(ping, pyramid__tweens="pyramid.tweens.excview_tween_factory").get("/path/1")
    assert spans.tree() == [("foo.PING", None)]


def test_explicit_tweens_with_ours_have_a_server_span(
    serve: Callable[..., TestApp], spans: RecordedSpans
) -> None:
    tweens = f"{SERVER_SPAN_TWEEN} pyramid.tweens.excview_tween_factory"
    serve(ping, pyramid__tweens=tweens).get("/path/1")
    assert spans.tree() == [("GET /path/{name}", None), ("foo.PING", "GET /path/{name}")]


def test_an_http_exception_that_nothing_answers_is_an_error(
    serve: Callable[..., TestApp], spans: RecordedSpans
) -> None:
    def view(request: Request) -> Response:
        raise exception_response(404)

    with pytest.raises(HTTPException):
        serve(view, pyramid__tweens=SERVER_SPAN_TWEEN).get("/path/1")
    assert server_span(spans).status.status_code is StatusCode.ERROR


# Incoming trace context


def test_trace_headers_are_not_trusted_by_default(
    serve: Callable[..., TestApp], spans: RecordedSpans
) -> None:
    serve(hello).get("/path/1", headers=SAMPLED)
    span = server_span(spans)
    assert span.parent is None
    assert f"{span.context.trace_id:032x}" != TRACE_ID


def test_a_trace_is_continued_when_its_headers_are_trusted(
    serve: Callable[..., TestApp], spans: RecordedSpans
) -> None:
    serve(ping, baseplate_redis__trust_trace_headers="true").get("/path/1", headers=SAMPLED)
    span = server_span(spans)
    assert span.parent is not None
    assert span.parent.is_remote
    assert f"{span.parent.span_id:016x}" == PARENT_ID
    assert {f"{each.context.trace_id:032x}" for each in spans.all} == {TRACE_ID}


def test_the_trace_state_is_kept_when_trace_headers_are_trusted(
    serve: Callable[..., TestApp], spans: RecordedSpans
) -> None:
    app = serve(hello, baseplate_redis__trust_trace_headers="true")
    app.get("/path/1", headers={**SAMPLED, "tracestate": "vendor=value"})
    assert dict(server_span(spans).context.trace_state) == {"vendor": "value"}


@pytest.mark.parametrize(
    "header",
    [
        "",
        "nonsense",
        f"00-{'0' * 32}-{PARENT_ID}-01",
        f"00-{TRACE_ID}-{'0' * 16}-01",
        f"ff-{TRACE_ID}-{PARENT_ID}-01",
        f"00-{TRACE_ID.upper()[:-1]}g-{PARENT_ID}-01",
        f"00-{TRACE_ID}-{PARENT_ID}",
        "\xff\xfe",
    ],
)
def test_malformed_trace_headers_are_passed_over(
    serve: Callable[..., TestApp], spans: RecordedSpans, header: str
) -> None:
    app = serve(hello, baseplate_redis__trust_trace_headers="true")
    app.get("/path/1", extra_environ={"HTTP_TRACEPARENT": header})
    assert server_span(spans).parent is None


def test_a_request_that_is_not_sampled_has_no_spans(
    serve: Callable[..., TestApp], spans: RecordedSpans
) -> None:
    app = serve(ping, baseplate_redis__trust_trace_headers="true")
    app.get("/path/1", headers=NOT_SAMPLED)
    assert spans.all == []


def test_a_request_that_is_not_sampled_has_its_caller_s_trace(
    serve: Callable[..., TestApp],
) -> None:
    def view(request: Request) -> Response:
        return Response(f"{request.span.get_span_context().trace_id:032x}")

    app = serve(view, baseplate_redis__trust_trace_headers="true")
    assert app.get("/path/1", headers=NOT_SAMPLED).text == TRACE_ID
