"""Which commands and pipelines get a span, and below which parent."""

from __future__ import annotations

from typing import Any
from unittest.mock import Mock

import pytest
import redis
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import (
    INVALID_SPAN,
    NonRecordingSpan,
    Span,
    SpanContext,
    TraceFlags,
    set_span_in_context,
)

from pyramid_baseplate_redis.telemetry import command_spans
from pyramid_baseplate_redis.telemetry.call_details import Peers
from pyramid_baseplate_redis.telemetry.command_spans import CommandTracer, checked_span
from pyramid_baseplate_redis.telemetry.otel import SUPPRESS_KEY, SUPPRESS_PLAIN_KEY

GET = ("GET", "key")
SAMPLED, UNSAMPLED = TraceFlags(TraceFlags.SAMPLED), TraceFlags(0)


def span_of(number: int, *, sampled: bool = True, remote: bool = False) -> Span:
    """Return a span that does not record: it has ended, was not sampled or is remote."""
    flags = SAMPLED if sampled else UNSAMPLED
    return NonRecordingSpan(SpanContext(number, number, remote, flags))


class Recording(NonRecordingSpan):
    def is_recording(self) -> bool:
        return True


def recording(number: int, *, sampled: bool = True) -> Span:
    flags = SAMPLED if sampled else UNSAMPLED
    return Recording(SpanContext(number, number, False, flags))


PARENTS = {
    "none": INVALID_SPAN,
    "recording": recording(1),
    "recording but not sampled": recording(1, sampled=False),
    "ended": span_of(1),
    "not sampled": span_of(1, sampled=False),
    "remote": span_of(1, remote=True),
    "remote and not sampled": span_of(1, sampled=False, remote=True),
}
TRACED = ("recording", "recording but not sampled", "ended", "remote", "remote and not sampled")


def tracer_of(**options: Any) -> CommandTracer:
    options = {"pool_name": "foo", "connection_kwargs": {}, **options}
    return CommandTracer("foo", **options)


def parent_in(context: Context | None) -> Span | None:
    return None if context is None else trace.get_current_span(context)


@pytest.fixture(params=["command", "command that is not excluded", "pipeline"])
def decide(request: pytest.FixtureRequest) -> Any:
    """Return the parent of a command's or a pipeline's span; ``None`` without a span."""

    def parent(current: Span, server_span: Span, keys: Any = (), **options: Any) -> Span | None:
        context = Context({**set_span_in_context(current, Context()), **dict.fromkeys(keys, True)})
        if request.param == "pipeline":
            return parent_in(tracer_of(**options).batch_context(server_span, context))
        if request.param != "command":
            options["exclude"] = frozenset({"SET"})
        return parent_in(tracer_of(**options).command_context(server_span, GET, context))

    return parent


@pytest.mark.parametrize("name", TRACED)
@pytest.mark.parametrize("server", ["none", "recording", "not sampled"])
def test_the_current_span_is_the_parent_whatever_the_request_is(
    decide: Any, name: str, server: str
) -> None:
    assert decide(PARENTS[name], PARENTS[server]) is PARENTS[name]


@pytest.mark.parametrize("server", ["none", "recording"])
def test_below_a_current_span_that_is_not_sampled_there_is_none(decide: Any, server: str) -> None:
    assert decide(PARENTS["not sampled"], PARENTS[server]) is None


@pytest.mark.parametrize("name", TRACED)
@pytest.mark.parametrize("trace", ["all", "children"])
def test_without_a_current_span_the_parent_is_the_requests(
    decide: Any, name: str, trace: str
) -> None:
    assert decide(INVALID_SPAN, PARENTS[name], trace=trace) is PARENTS[name]


def test_below_a_request_that_is_not_sampled_there_is_none(decide: Any) -> None:
    assert decide(INVALID_SPAN, PARENTS["not sampled"]) is None


@pytest.mark.parametrize(("trace", "has_span"), [("all", True), ("children", False)])
def test_a_root_span_is_made_unless_only_children_are_wanted(
    decide: Any, trace: str, has_span: bool
) -> None:
    assert (decide(INVALID_SPAN, INVALID_SPAN, trace=trace) is not None) is has_span


# The IDs are given, since the first key is another one in each process.
@pytest.mark.parametrize("key", [SUPPRESS_KEY, SUPPRESS_PLAIN_KEY], ids=["own", "plain"])
@pytest.mark.parametrize("name", ["none", "recording", "ended"])
def test_a_context_that_suppresses_telemetry_has_no_spans(decide: Any, name: str, key: str) -> None:
    assert decide(PARENTS[name], INVALID_SPAN, keys=[key]) is None


@pytest.mark.parametrize(
    ("trace", "has_commands", "has_pipelines"),
    [
        ("all", True, True),
        ("children", True, True),
        ("pipelines", False, True),
        ("off", False, False),
    ],
)
def test_the_setting_decides_on_commands_and_pipelines(
    trace: str, has_commands: bool, has_pipelines: bool
) -> None:
    tracer = tracer_of(trace=trace)
    context = set_span_in_context(PARENTS["recording"], Context())
    assert (tracer.command_context(INVALID_SPAN, GET, context) is not None) is has_commands
    assert (tracer.batch_context(INVALID_SPAN, context) is not None) is has_pipelines


@pytest.mark.parametrize(
    ("command", "is_excluded"),
    [("GET", True), ("get", True), ("CONFIG GET", True), ("MGET", False), ("SET", False)],
)
@pytest.mark.parametrize("parent", ["recording", "ended"])
def test_excluded_commands_have_no_span(command: str, is_excluded: bool, parent: str) -> None:
    tracer = tracer_of(exclude=frozenset({"GET", "CONFIG"}))
    context = set_span_in_context(PARENTS[parent], Context())
    found = tracer.command_context(INVALID_SPAN, (command, "key"), context)
    assert (found is None) is is_excluded


def test_a_copy_for_children_makes_no_root_spans_and_the_original_does() -> None:
    tracer = tracer_of()
    copy = tracer.children_only()
    assert copy.command_context(INVALID_SPAN, GET, Context()) is None
    assert tracer.command_context(INVALID_SPAN, GET, Context()) is not None


@pytest.mark.parametrize("method", ["command_context", "batch_context"])
def test_a_context_that_fails_costs_the_span_and_nothing_else(
    method: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    logged = Mock()
    monkeypatch.setattr(command_spans, "log_once", logged)
    context = Mock()
    context.get.side_effect = RuntimeError
    args: Any = (INVALID_SPAN, GET, context) if "command" in method else (INVALID_SPAN, context)
    assert getattr(tracer_of(), method)(*args) is None
    logged.assert_called_once_with("starting a span failed")


# The attributes that all spans of a client have


@pytest.mark.parametrize(("given", "shown"), [({}, "0"), ({"db": None}, "0"), ({"db": 3}, "3")])
def test_the_namespace_is_the_database(given: dict[str, Any], shown: str) -> None:
    attributes = tracer_of(connection_kwargs=given).command_attributes("GET")
    assert attributes["db.namespace"] == shown


def test_the_server_is_known_if_the_settings_name_it() -> None:
    named = tracer_of(connection_kwargs={"host": "example.org", "port": 7})
    assert named.server == {"server.address": "example.org", "server.port": 7}
    assert tracer_of().server == {}


def test_a_pool_of_redis_py_has_the_default_settings() -> None:
    tracer = CommandTracer.for_pool(redis.ConnectionPool(host="example.org"), "redis")
    assert (tracer.context_name, tracer.query_text) == ("redis", "off")
    assert tracer._common["db.client.connection.pool.name"] == "redis"
    assert tracer.server["server.address"] == "example.org"
    context = set_span_in_context(PARENTS["recording"], Context())
    assert tracer.command_context(INVALID_SPAN, GET, context) is context


def test_a_pool_may_have_another_name_than_the_client() -> None:
    tracer = CommandTracer.for_pool(redis.ConnectionPool(), "foo", "bar")
    assert tracer._common["db.client.connection.pool.name"] == "bar"


def test_the_peers_are_those_of_the_pool() -> None:
    pool, peers = redis.ConnectionPool(), Peers()
    pool.peers = peers  # type: ignore[attr-defined]
    assert CommandTracer.for_pool(pool, "foo")._peers is peers


def test_something_else_than_a_span_is_refused_by_name() -> None:
    assert checked_span(None) is INVALID_SPAN
    assert checked_span(PARENTS["ended"]) is PARENTS["ended"]
    with pytest.raises(TypeError, match="server_span: str is not an OpenTelemetry span"):
        checked_span("localhost")  # type: ignore[arg-type]
