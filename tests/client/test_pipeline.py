"""Pipelines: execute() is one span, what is sent at once has a span each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import redis
from opentelemetry import trace
from opentelemetry.trace import SpanKind, StatusCode

from pyramid_baseplate_redis import (
    MonitoredRedisConnection,
    MonitoredRedisPipeline,
    pool_from_config,
)

from ..support.servers import MakeClient, RecordedSpans, Server, attributes, free_port

tracer = trace.get_tracer("tests")
SECRET = "hunter2-secretword"


@pytest.fixture
def client(valkey: Server, make_client: MakeClient) -> MonitoredRedisConnection:
    """A client with one connection: a pipeline that keeps it would block the next command."""
    return make_client(valkey, max_connections="1", pool_timeout="50 milliseconds")


def failures(spans: RecordedSpans) -> list[tuple[str, Any, Any]]:
    """Name, error type and server's code of the spans that tell of a failure."""
    return [
        (
            span.name,
            attributes(span).get("error.type"),
            attributes(span).get("db.response.status_code"),
        )
        for span in spans.all
        if span.status.status_code is not StatusCode.UNSET or "error.type" in attributes(span)
    ]


WRONGTYPE = ("foo.pipeline_bad", "WRONGTYPE", "WRONGTYPE")


# Names and attributes


def test_a_pipeline_is_one_client_span(
    server: Server, make_client: MakeClient, spans: RecordedSpans
) -> None:
    pipeline = make_client(server).pipeline("count")
    pipeline.set("key", "value")
    pipeline.get("key")
    assert pipeline.execute() == [True, b"value"]
    (span,) = spans.all
    assert (span.name, span.kind) == ("foo.pipeline_count", SpanKind.CLIENT)


def test_the_attributes_are_those_of_the_conventions(
    server: Server, make_client: MakeClient, spans: RecordedSpans
) -> None:
    make_client(server).pipeline("count").incr("n").get("n").incr("n").execute()
    assert attributes(spans.one("foo.pipeline_count")) == {
        "db.system.name": "redis",
        "db.namespace": "0",
        "db.operation.name": "MULTI",
        "db.operation.batch.size": 3,
        "db.client.connection.pool.name": "foo",
        "server.address": "127.0.0.1",
        "server.port": server.port,
        "network.peer.address": "127.0.0.1",
        "network.peer.port": server.port,
    }


@pytest.mark.parametrize("transaction", [True, False])
def test_a_pipeline_of_one_command_is_described_as_that_command(
    client: MonitoredRedisConnection, spans: RecordedSpans, transaction: bool
) -> None:
    client.get("n")
    client.pipeline("count", transaction).get("n").execute()
    found = attributes(spans.one("foo.pipeline_count"))
    assert found == attributes(spans.one("foo.GET"))
    assert found["db.operation.name"] == "GET"


def test_a_pipeline_of_one_script_names_the_script(
    client: MonitoredRedisConnection, spans: RecordedSpans
) -> None:
    digest = client.script_load("return 1")
    client.pipeline("script").evalsha(digest, 0).execute()
    assert attributes(spans.one("foo.pipeline_script"))["db.stored_procedure.name"] == digest


@pytest.mark.parametrize(
    ("arguments", "operation"),
    [((True,), "MULTI GET"), ((False,), "PIPELINE GET")],
    ids=["transaction", "plain"],
)
def test_the_operation_names_a_command_that_all_share(
    client: MonitoredRedisConnection,
    spans: RecordedSpans,
    arguments: tuple[bool, ...],
    operation: str,
) -> None:
    client.pipeline(*arguments).get("a").get("b").execute()
    assert attributes(spans.one("foo.pipeline"))["db.operation.name"] == operation


@pytest.mark.parametrize(
    ("arguments", "keywords", "name", "transaction"),
    [
        ((), {}, "foo.pipeline", True),
        (("count",), {}, "foo.pipeline_count", True),
        (("count", False), {}, "foo.pipeline_count", False),
        (("count", False, "hint"), {}, "foo.pipeline_count", False),
        ((), {"name": "count", "transaction": False}, "foo.pipeline_count", False),
        ((True,), {}, "foo.pipeline", True),
        ((False,), {}, "foo.pipeline", False),
        ((False, "hint"), {}, "foo.pipeline", False),
        ((True, None), {}, "foo.pipeline", True),
        ((), {"transaction": False}, "foo.pipeline", False),
        ((), {"transaction": False, "shard_hint": "hint"}, "foo.pipeline", False),
    ],
)
def test_a_name_comes_first_unless_it_is_redis_pys_own_bool(
    client: MonitoredRedisConnection,
    spans: RecordedSpans,
    arguments: tuple[Any, ...],
    keywords: dict[str, Any],
    name: str,
    transaction: bool,
) -> None:
    pipeline = client.pipeline(*arguments, **keywords)
    pipeline.ping().execute()
    hinted = "hint" in (*arguments, *keywords.values())
    assert (spans.names, pipeline.transaction) == ([name], transaction)
    assert pipeline.shard_hint == ("hint" if hinted else None)


def test_the_classs_arguments_are_the_references(valkey: Server, spans: RecordedSpans) -> None:
    pool = pool_from_config({"foo.url": valkey.url}, "foo.")
    callbacks = redis.Redis(connection_pool=pool).response_callbacks
    with tracer.start_as_current_span("request") as request:
        pipeline = MonitoredRedisPipeline("foo.pipeline_own", request, pool, callbacks)
        assert pipeline.set("key", "value").execute() == [True]
    pool.disconnect()
    assert spans.tree() == [("request", None), ("foo.pipeline_own", "request")]


# Parents


@pytest.mark.parametrize("current", [True, False], ids=["current", "the request's"])
def test_everything_of_a_pipeline_has_the_same_parent(
    valkey: Server, make_client: MakeClient, spans: RecordedSpans, current: bool
) -> None:
    request = tracer.start_span("request")
    client = make_client(valkey, None if current else request)
    current_span = request if current else trace.INVALID_SPAN
    with trace.use_span(current_span), client.pipeline("count") as pipeline:
        pipeline.watch("n")
        pipeline.multi()
        pipeline.incr("n").execute()
    request.end()
    assert spans.tree() == [
        ("request", None),
        ("foo.WATCH", "request"),
        ("foo.pipeline_count", "request"),
    ]


# Ways to use it


def test_the_context_manager_gives_the_connection_back(client: MonitoredRedisConnection) -> None:
    with client.pipeline("count") as pipeline:
        pipeline.watch("n")
        with pytest.raises(redis.ConnectionError):
            client.ping()
    assert client.ping()


def test_queueing_makes_no_span(client: MonitoredRedisConnection, spans: RecordedSpans) -> None:
    with client.pipeline("count") as pipeline:
        pipeline.incr("n").incr("n")
        assert len(pipeline) == 2
    assert spans.names == []


def test_chained_calls_return_the_pipeline(client: MonitoredRedisConnection) -> None:
    pipeline = client.pipeline("chain")
    assert pipeline.set("key", "value").get("key") is pipeline


def test_what_is_read_before_multi_has_a_span_each(
    server: Server, make_client: MakeClient, spans: RecordedSpans
) -> None:
    with make_client(server).pipeline("count") as pipeline:
        pipeline.watch("n")
        assert pipeline.get("n") is None
        pipeline.multi()
        assert pipeline.set("n", 1).get("n").execute() == [True, b"1"]
    assert spans.names == ["foo.WATCH", "foo.GET", "foo.pipeline_count"]


def test_an_immediate_command_has_a_span(
    client: MonitoredRedisConnection, spans: RecordedSpans
) -> None:
    with client.pipeline("count") as pipeline:
        assert pipeline.immediate_execute_command("PING") is True
    assert spans.names == ["foo.PING"]


def test_an_immediate_command_that_fails_is_a_failure(
    server: Server, make_client: MakeClient, spans: RecordedSpans
) -> None:
    client = make_client(server)
    client.set("text", "value")
    with client.pipeline("bad") as pipeline:
        pipeline.watch("text")
        with pytest.raises(redis.ResponseError):
            pipeline.llen("text")
    assert failures(spans) == [("foo.LLEN", "WRONGTYPE", "WRONGTYPE")]


def test_an_empty_pipeline_makes_no_span(
    client: MonitoredRedisConnection, spans: RecordedSpans
) -> None:
    assert client.pipeline("nothing").execute() == []
    assert spans.names == []


def test_an_empty_pipeline_does_no_io(make_client: MakeClient) -> None:
    nobody_listens = make_client(f"redis://127.0.0.1:{free_port()}")
    assert nobody_listens.pipeline("nothing").execute() == []


def test_a_watch_without_commands_is_still_executed(
    server: Server, make_client: MakeClient, spans: RecordedSpans
) -> None:
    client = make_client(server)
    with client.pipeline("nothing") as pipeline:
        pipeline.watch("n")
        client.set("n", 1)
        with pytest.raises(redis.WatchError):
            pipeline.execute()
    assert spans.names == ["foo.WATCH", "foo.SET", "foo.pipeline_nothing"]
    assert failures(spans) == []


def test_a_pipeline_can_be_used_again(
    client: MonitoredRedisConnection, spans: RecordedSpans
) -> None:
    client.set("text", "value")
    pipeline = client.pipeline("bad")
    with pytest.raises(redis.ResponseError):
        pipeline.lpush("text", 1).execute()
    assert pipeline.get("text").execute() == [b"value"]
    assert failures(spans) == [WRONGTYPE]


def test_a_module_queues_on_the_pipeline(
    client: MonitoredRedisConnection, spans: RecordedSpans
) -> None:
    with client.pipeline("bad") as pipeline:
        pipeline.json().set("document", "$", {"a": 1})
        with pytest.raises(redis.ResponseError):
            pipeline.execute()
    assert spans.names == ["foo.pipeline_bad"]


# Transactions


def increment(other: redis.Redis, times: list[int]) -> Callable[[MonitoredRedisPipeline], Any]:
    """Increment ``n`` by hand; the first time, somebody else is quicker."""

    def run(pipeline: MonitoredRedisPipeline) -> str:
        number = int(pipeline.get("n") or 0)
        if not times:
            other.set("n", 10)
        times.append(number)
        pipeline.multi()
        pipeline.set("n", number + 1)
        return "from the function"

    return run


def test_a_transaction_is_tried_again_until_no_other_client_interferes(
    server: Server, make_client: MakeClient, spans: RecordedSpans
) -> None:
    with redis.Redis(port=server.port) as other:
        function = increment(other, [])
        assert make_client(server).transaction(function, "n", name="increment") == [True]
        assert other.get("n") == b"11"
    attempt = ["foo.WATCH", "foo.GET", "foo.pipeline_increment"]
    assert spans.names == attempt * 2


def test_a_watch_error_is_no_failure(
    server: Server, make_client: MakeClient, spans: RecordedSpans
) -> None:
    with redis.Redis(port=server.port) as other:
        make_client(server).transaction(increment(other, []), "n", name="increment")
    assert failures(spans) == []


def test_a_transactions_value_can_be_the_functions(client: MonitoredRedisConnection) -> None:
    function = increment(client, [1])
    assert client.transaction(function, "n", value_from_callable=True) == "from the function"


def test_a_transaction_waits_before_the_next_attempt(
    valkey: Server, make_client: MakeClient, spans: RecordedSpans
) -> None:
    with redis.Redis(port=valkey.port) as other:
        make_client(valkey).transaction(increment(other, []), "n", watch_delay=0.1)
    first, second = spans.named("foo.WATCH")
    assert (second.start_time or 0) - (first.start_time or 0) > 0.1e9


def test_a_transaction_without_a_name(
    client: MonitoredRedisConnection, spans: RecordedSpans
) -> None:
    assert client.transaction(lambda pipeline: pipeline.incr("n")) == [1]
    assert spans.names == ["foo.pipeline"]


def test_a_transaction_whose_function_raises_gives_the_connection_back(
    client: MonitoredRedisConnection,
) -> None:
    with pytest.raises(ZeroDivisionError):
        client.transaction(lambda pipeline: 1 / 0, "n")
    assert client.ping()


# Failures


@pytest.mark.parametrize("transaction", [True, False], ids=["transaction", "plain"])
def test_a_failing_command_marks_the_pipeline(
    server: Server, make_client: MakeClient, spans: RecordedSpans, transaction: bool
) -> None:
    client = make_client(server)
    client.set("text", "value")
    with pytest.raises(redis.ResponseError, match=r"Command # 2 \(LPUSH text 1\) of pipeline"):
        client.pipeline("bad", transaction).get("text").lpush("text", 1).execute()
    assert failures(spans) == [WRONGTYPE]


@pytest.mark.parametrize("transaction", [True, False], ids=["transaction", "plain"])
@pytest.mark.parametrize("positional", [True, False], ids=["positional", "keyword"])
def test_a_failing_command_marks_the_pipeline_that_doesnt_raise(
    server: Server,
    make_client: MakeClient,
    spans: RecordedSpans,
    transaction: bool,
    positional: bool,
) -> None:
    client = make_client(server)
    client.set("text", "value")
    pipeline = client.pipeline("bad", transaction).get("text").lpush("text", 1).incr("n")
    results = pipeline.execute(False) if positional else pipeline.execute(raise_on_error=False)
    value, error, number = results
    assert (value, type(error), number) == (b"value", redis.ResponseError, 1)
    assert failures(spans) == [WRONGTYPE]


@pytest.mark.parametrize("transaction", [True, False], ids=["transaction", "plain"])
def test_the_first_of_several_failures_is_reported(
    valkey: Server, make_client: MakeClient, spans: RecordedSpans, transaction: bool
) -> None:
    client = make_client(valkey)
    client.set("text", "value")
    client.pipeline("bad", transaction).incr("text").lpush("text", 1).execute(False)
    assert failures(spans) == [("foo.pipeline_bad", "ERR", "ERR")]


@pytest.mark.parametrize("raises", [True, False], ids=["raises", "returns"])
def test_a_command_that_the_server_refuses_to_queue(
    server: Server, make_client: MakeClient, spans: RecordedSpans, raises: bool
) -> None:
    pipeline = make_client(server).pipeline("bad")
    pipeline.get("text").execute_command("NO.SUCH", SECRET)
    with pytest.raises(redis.ResponseError, match="unknown command"):
        pipeline.execute(raises)
    assert failures(spans) == [("foo.pipeline_bad", "ERR", "ERR")]


def test_a_full_server_is_reported_by_its_code(
    server: Server, make_client: MakeClient, spans: RecordedSpans
) -> None:
    client = make_client(server)
    client.config_set("maxmemory", "1")
    try:
        with pytest.raises(redis.ResponseError):
            client.pipeline("bad").set("key", "value").execute()
    finally:
        client.config_set("maxmemory", "0")
    assert [code for _, _, code in failures(spans)] == ["OOM"]


def test_a_refused_connection_is_a_failure_without_code(
    make_client: MakeClient, spans: RecordedSpans
) -> None:
    client = make_client(f"redis://127.0.0.1:{free_port()}")
    with pytest.raises(redis.ConnectionError):
        client.pipeline("bad").ping().execute()
    assert failures(spans) == [("foo.pipeline_bad", "redis.exceptions.ConnectionError", None)]


def test_the_raised_exception_is_the_object_that_redis_py_raised(
    client: MonitoredRedisConnection, spans: RecordedSpans
) -> None:
    error = redis.RedisError("from within redis-py")

    def refuse(response: bytes, **options: Any) -> None:
        raise error

    client.set_response_callback("GET", refuse)
    with pytest.raises(redis.RedisError) as raised:
        client.pipeline("bad").get("key").execute()
    assert raised.value is error
    assert failures(spans) == [("foo.pipeline_bad", "redis.exceptions.RedisError", None)]


@pytest.mark.parametrize("raises", [True, False], ids=["raises", "returns"])
def test_no_value_of_a_failing_command_is_shown(
    client: MonitoredRedisConnection, spans: RecordedSpans, raises: bool
) -> None:
    client.set("text", "value")
    pipeline = client.pipeline("bad", transaction=False).lpush("text", SECRET)
    if raises:
        with pytest.raises(redis.ResponseError, match=SECRET):
            pipeline.execute()
    else:
        pipeline.execute(False)
    span = spans.one("foo.pipeline_bad")
    assert (span.status.description, list(span.events)) == (None, [])
    assert SECRET not in span.to_json()


# Scripts


def test_a_script_in_a_pipeline_is_loaded_in_spans_of_their_own(
    server: Server, make_client: MakeClient, spans: RecordedSpans
) -> None:
    client = make_client(server)
    client.script_flush()
    spans.clear()
    script = client.register_script("return ARGV[1]")
    with tracer.start_as_current_span("request"), client.pipeline("scripts") as pipeline:
        script(args=["hello"], client=pipeline)
        assert pipeline.execute() == [b"hello"]
    immediate = {("foo.SCRIPT EXISTS", "request"), ("foo.SCRIPT LOAD", "request")}
    assert immediate < set(spans.tree())
    assert ("foo.pipeline_scripts", "request") in spans.tree()
    assert len(spans.names) == 4
    assert failures(spans) == []


def test_a_script_that_the_server_knows_is_only_looked_up(
    valkey: Server, make_client: MakeClient, spans: RecordedSpans
) -> None:
    client = make_client(valkey)
    script = client.register_script("return ARGV[1]")
    script(args=["hello"])
    spans.clear()
    with client.pipeline("scripts") as pipeline:
        script(args=["hello"], client=pipeline)
        pipeline.execute()
    assert sorted(spans.names) == ["foo.SCRIPT EXISTS", "foo.pipeline_scripts"]
