"""Commands of Redis modules, and their pipelines, have spans like all others."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis
from fakeredis import TcpFakeServer

from pyramid_baseplate_redis import MonitoredRedisConnection, pool_from_config

from ..support.servers import MakeClient, RecordedSpans, Server, attributes
from .conftest import code, failures


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda c: c.json().set("document", "$", {"a": 1}), "foo.JSON.SET"),
        (lambda c: c.ft("index").info(), "foo.FT.INFO"),
        (lambda c: c.ts().create("series"), "foo.TS.CREATE"),
        (lambda c: c.bf().add("filter", "item"), "foo.BF.ADD"),
    ],
    ids=["json", "ft", "ts", "bf"],
)
def test_a_modules_command_that_the_server_lacks_is_a_failure(
    server: Server,
    make_client: MakeClient,
    spans: RecordedSpans,
    call: Callable[[MonitoredRedisConnection], Any],
    name: str,
) -> None:
    with pytest.raises(redis.ResponseError, match="unknown command"):
        call(make_client(server))
    assert [(span.name, code(span)) for span in spans.all] == [(name, "ERR")]
    assert failures(spans) == [name]


def add_document(pipeline: Any) -> None:
    pipeline.set("document", "$", {"a": 1})


def describe_index(pipeline: Any) -> None:
    pipeline.info()


def create_series(pipeline: Any) -> None:
    pipeline.create("series")


@pytest.mark.parametrize(
    ("module", "queue"),
    [("json", add_document), ("ft", describe_index), ("ts", create_series)],
    ids=["json", "ft", "ts"],
)
@pytest.mark.parametrize("transaction", [True, False], ids=["MULTI", "PIPELINE"])
def test_a_modules_pipeline_is_one_span(
    server: Server,
    make_client: MakeClient,
    spans: RecordedSpans,
    module: str,
    queue: Callable[[Any], None],
    transaction: bool,
) -> None:
    pipeline = getattr(make_client(server), module)().pipeline("batch", transaction)
    queue(pipeline)
    with pytest.raises(redis.ResponseError, match="unknown command"):
        pipeline.execute()
    assert [(span.name, code(span)) for span in spans.all] == [("foo.pipeline_batch", "ERR")]
    assert failures(spans) == ["foo.pipeline_batch"]


@pytest.mark.parametrize(
    ("arguments", "keywords", "transaction"),
    [((), {}, True), ((False,), {}, False), ((), {"transaction": False}, False)],
)
def test_a_modules_pipeline_takes_what_redis_pys_takes(
    valkey: Server,
    make_client: MakeClient,
    arguments: tuple[Any, ...],
    keywords: dict[str, Any],
    transaction: bool,
) -> None:
    pipeline = make_client(valkey).json().pipeline(*arguments, **keywords)
    assert pipeline.transaction is transaction


@pytest.fixture
def json_server() -> Iterator[str]:
    """A server in this process that knows JSON commands, which the real ones here don't."""
    with TcpFakeServer(("127.0.0.1", 0), server_type="redis") as fake:
        thread = threading.Thread(target=fake.serve_forever, daemon=True)
        thread.start()
        yield f"redis://127.0.0.1:{fake.server_address[1]}"
        fake.shutdown()
        thread.join()


@pytest.fixture
def json_client(json_server: str) -> Iterator[MonitoredRedisConnection]:
    pool = pool_from_config({"foo.url": json_server}, "foo.")
    yield MonitoredRedisConnection("foo", None, pool)
    pool.disconnect()


def test_json_documents(json_client: MonitoredRedisConnection, spans: RecordedSpans) -> None:
    assert json_client.json().set("document", "$", {"a": [1, 2]}) is True
    assert json_client.json().get("document") == {"a": [1, 2]}
    assert spans.names == ["foo.JSON.SET", "foo.JSON.GET"]


def test_json_documents_in_a_pipeline(
    json_client: MonitoredRedisConnection, spans: RecordedSpans
) -> None:
    pipeline = json_client.json().pipeline("documents")
    pipeline.set("document", "$", {"a": 1})
    pipeline.get("document")
    assert pipeline.execute() == [True, {"a": 1}]
    (span,) = spans.all
    assert (span.name, attributes(span)["db.operation.batch.size"]) == ("foo.pipeline_documents", 2)
