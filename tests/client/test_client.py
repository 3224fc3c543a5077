"""MonitoredRedisConnection: it acts as redis.Redis in everything, with a span for each command."""

from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from fakeredis import TcpFakeServer
from mirakuru import TCPExecutor
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import StatusCode
from redis.lock import Lock
from redis.sentinel import Sentinel

from pyramid_baseplate_redis import (
    MonitoredRedisConnection,
    RedisContextFactory,
    pool_from_config,
)

from ..support.servers import (
    MakeClient,
    RecordedSpans,
    Server,
    attributes,
    free_port,
    server_binary,
)

tracer = trace.get_tracer("tests")


def code(span: ReadableSpan) -> Any:
    return attributes(span).get("db.response.status_code")


def failures(spans: RecordedSpans) -> list[str]:
    """The names of the spans that tell of a failure."""
    return [
        span.name
        for span in spans.all
        if span.status.status_code is not StatusCode.UNSET or "error.type" in attributes(span)
    ]


# Results and exceptions


def test_it_is_a_redis_client(valkey: Server, make_client: MakeClient) -> None:
    assert isinstance(make_client(valkey), redis.Redis)


def test_a_result_is_the_object_that_redis_py_made(valkey: Server, make_client: MakeClient) -> None:
    result = object()
    client = make_client(valkey)
    client.set_response_callback("GET", lambda response, **options: result)
    assert client.get("key") is result


def test_an_exception_is_the_object_that_redis_py_raised(
    valkey: Server, make_client: MakeClient
) -> None:
    error = redis.RedisError("from within redis-py")
    client = make_client(valkey)

    def refuse(response: bytes, **options: Any) -> None:
        raise error

    client.set_response_callback("GET", refuse)
    with pytest.raises(redis.RedisError) as raised:
        client.get("key")
    assert raised.value is error


CALLS: list[Callable[[redis.Redis], Any]] = [
    lambda c: c.set("text", "value"),
    lambda c: c.set("text", "other", nx=True),
    lambda c: c.get("text"),
    lambda c: c.get("missing"),
    lambda c: c.incrbyfloat("float", 0.5),
    lambda c: c.hset("hash", mapping={"a": 1, "b": 2}),
    lambda c: c.hgetall("hash"),
    lambda c: c.zadd("sorted", {"a": 1, "b": 2.5}),
    lambda c: c.zrange("sorted", 0, -1, withscores=True),
    lambda c: c.smembers("missing"),
    lambda c: c.mget("text", "missing"),
    lambda c: c.xadd("stream", {"field": "value"}, id="1-1"),
    lambda c: c.xrange("stream"),
    lambda c: c.scan(match="text"),
    lambda c: c.exists("text", "hash", "missing"),
    lambda c: c.config_get("maxmemory"),
    lambda c: c.execute_command("GET", "text"),
    lambda c: c.lpush("text", 1),
    lambda c: c.incr("text"),
    lambda c: c.evalsha("f" * 40, 0),
    lambda c: c.execute_command("NO.SUCH", "argument"),
    lambda c: c.execute_command("GET"),
    lambda c: c.set("text", object()),
    lambda c: c.set("text", "value", ex=1, px=1),
    lambda c: c.lock("text", blocking=False).acquire(),
    lambda c: c.lock("text").release(),
    lambda c: c.lock("text").extend(1),
    lambda c: c.pipeline().set("text", "value").lpush("text", 1).execute(),
    lambda c: c.pipeline(False).set("text", "value").lpush("text", 1).execute(),
    lambda c: c.pipeline().execute_command("NO.SUCH", "argument").execute(),
    lambda c: c.pipeline().get("text").get("missing").hgetall("hash").execute(),
    lambda c: c.transaction(lambda p: p.get("text"), "text"),
    lambda c: c.json().get("document"),
    lambda c: c.publish("news", "now"),
    lambda c: list(c.scan_iter("text")),
]


def outcome(client: redis.Redis, call: Callable[[redis.Redis], Any]) -> Any:
    try:
        result = call(client)
    except Exception as error:
        return type(error), repr(error.args), str(error)
    return type(result), result


@pytest.mark.parametrize(
    "settings",
    [{}, {"decode_responses": "true"}, {"protocol": "2"}],
    ids=["bytes", "decoded", "RESP2"],
)
def test_results_and_exceptions_are_those_of_redis_py(
    server: Server, make_client: MakeClient, settings: dict[str, str]
) -> None:
    client = make_client(server, **settings)
    plain = redis.Redis(connection_pool=client.connection_pool)
    expected = [outcome(plain, call) for call in CALLS]
    plain.flushall()
    assert [outcome(client, call) for call in CALLS] == expected


def test_the_raised_error_has_no_other_behind_it(valkey: Server, make_client: MakeClient) -> None:
    client = make_client(valkey)
    client.set("text", "value")
    with pytest.raises(redis.ResponseError) as raised:
        client.lpush("text", 1)
    assert (raised.value.__cause__, raised.value.__context__) == (None, None)


def test_decoded_responses_are_text(
    server: Server, make_client: MakeClient, spans: RecordedSpans
) -> None:
    client = make_client(server, decode_responses="true")
    client.set("greeting", "hello")
    assert client.get("greeting") == "hello"
    assert spans.names == ["foo.SET", "foo.GET"]


def test_threads_get_their_own_replies(valkey: Server, make_client: MakeClient) -> None:
    client = make_client(valkey, max_connections="3")
    wrong: list[str] = []

    def echo(number: int) -> None:
        for turn in range(100):
            text = f"{number}-{turn}"
            if client.echo(text) != text.encode():
                wrong.append(text)

    threads = [threading.Thread(target=echo, args=[number]) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_a_span_for_each_round_trip_of_an_iterator(
    server: Server, make_client: MakeClient, spans: RecordedSpans
) -> None:
    client = make_client(server)
    client.mset({f"key:{number}": number for number in range(100)})
    spans.clear()
    with tracer.start_as_current_span("request"):
        assert len(set(client.scan_iter("key:*", count=10))) == 100
    assert len(spans.named("foo.SCAN")) > 2
    assert set(spans.tree()) == {("request", None), ("foo.SCAN", "request")}


# Response callbacks


@pytest.fixture
def factory(valkey: Server) -> Iterator[RedisContextFactory]:
    pool = pool_from_config({"foo.url": valkey.url}, "foo.")
    yield RedisContextFactory(pool, "foo")
    pool.disconnect()


def shout(response: bytes | None, **options: Any) -> str:
    return "SHOUTED"


def test_a_response_callback_holds_for_its_client(factory: RedisContextFactory) -> None:
    client = factory.make_object_for_context("foo", None)
    client.set_response_callback("get", shout)
    assert client.get("key") == "SHOUTED"


def test_a_response_callback_holds_for_the_clients_pipelines(factory: RedisContextFactory) -> None:
    client = factory.make_object_for_context("foo", None)
    client.set_response_callback("GET", shout)
    assert client.pipeline().get("key").execute() == ["SHOUTED"]


def test_a_response_callback_never_reaches_another_client(factory: RedisContextFactory) -> None:
    before = factory.make_object_for_context("foo", None)
    factory.make_object_for_context("foo", None).set_response_callback("GET", shout)
    after = factory.make_object_for_context("foo", None)
    assert (before.get("key"), after.get("key")) == (None, None)


def test_a_response_callback_never_reaches_a_client_bound_from_its_own(
    factory: RedisContextFactory,
) -> None:
    client = factory.make_object_for_context("foo", None)
    client.set_response_callback("EXISTS", shout)
    twin = client.bound_to(trace.INVALID_SPAN)
    client.set_response_callback("GET", shout)
    assert twin.get("key") is None


def test_a_pipelines_response_callback_never_reaches_another_client(
    factory: RedisContextFactory,
) -> None:
    other = factory.make_object_for_context("foo", None)
    pipeline = factory.make_object_for_context("foo", None).pipeline()
    pipeline.set_response_callback("GET", shout)
    assert pipeline.get("key").execute() == ["SHOUTED"]
    assert other.get("key") is None


@pytest.mark.parametrize("module", ["json", "ft", "ts", "bf"])
def test_a_module_on_a_pipeline_never_reaches_another_clients_callbacks(
    factory: RedisContextFactory, module: str
) -> None:
    other = factory.make_object_for_context("foo", None)
    known = dict(other.response_callbacks)
    getattr(factory.make_object_for_context("foo", None).pipeline(), module)()
    assert dict(other.response_callbacks) == known


@pytest.mark.parametrize("module", ["json", "ft", "ts", "bf", "topk"])
def test_a_modules_callbacks_never_reach_another_client(
    factory: RedisContextFactory, module: str
) -> None:
    other = factory.make_object_for_context("foo", None)
    known = dict(other.response_callbacks)
    getattr(factory.make_object_for_context("foo", None), module)()
    assert dict(other.response_callbacks) == known
    assert dict(factory.make_object_for_context("foo", None).response_callbacks) == known


# Locks


def test_a_lock_is_taken_and_released_in_spans(
    server: Server, make_client: MakeClient, spans: RecordedSpans
) -> None:
    client = make_client(server)
    client.script_flush()
    spans.clear()
    with tracer.start_as_current_span("request"), client.lock("door", timeout=5):
        assert client.exists("door")
    assert not client.exists("door")
    assert spans.tree() == [
        ("request", None),
        ("foo.SET", "request"),
        ("foo.EXISTS", "request"),
        ("foo.EVALSHA", "request"),
        ("foo.SCRIPT LOAD", "request"),
        ("foo.EVALSHA", "request"),
        ("foo.EXISTS", None),
    ]
    assert failures(spans) == []


def test_a_second_release_finds_the_script_loaded(
    valkey: Server, make_client: MakeClient, spans: RecordedSpans
) -> None:
    client = make_client(valkey)
    with client.lock("door", timeout=5):
        pass
    spans.clear()
    with client.lock("door", timeout=5):
        pass
    assert spans.names == ["foo.SET", "foo.EVALSHA"]


def test_extending_and_reacquiring_a_lock(
    server: Server, make_client: MakeClient, spans: RecordedSpans
) -> None:
    client = make_client(server)
    lock = client.lock("door", timeout=5)
    assert lock.acquire()
    assert lock.extend(100) is True
    assert client.ttl("door") > 50
    assert lock.reacquire() is True
    assert client.ttl("door") <= 5
    lock.release()
    assert failures(spans) == []


def test_a_lock_that_another_holds_is_no_failure(
    server: Server, make_client: MakeClient, spans: RecordedSpans
) -> None:
    client = make_client(server)
    client.lock("door", timeout=5).acquire()
    assert client.lock("door", timeout=5, blocking=False).acquire() is False
    assert client.lock("door", timeout=5, sleep=0.01, blocking_timeout=0.05).acquire() is False
    assert failures(spans) == []


def test_losing_a_lock_is_told_by_the_exception_alone(
    valkey: Server, make_client: MakeClient, spans: RecordedSpans
) -> None:
    client = make_client(valkey)
    lock = client.lock("door", timeout=5)
    lock.acquire()
    client.delete("door")
    with pytest.raises(redis.exceptions.LockNotOwnedError):
        lock.release()
    assert failures(spans) == []


def test_a_lock_waits_for_another_request(valkey: Server, make_client: MakeClient) -> None:
    held = make_client(valkey).lock("door", timeout=5, thread_local=False)
    held.acquire()
    timer = threading.Timer(0.1, held.release)
    timer.start()
    assert make_client(valkey).lock("door", sleep=0.02).acquire(blocking_timeout=4) is True
    timer.join()


@pytest.fixture
def own_lock_class() -> type[Lock]:
    """A user's own kind of lock, of which no instance was made yet."""
    return type("OwnLock", (Lock,), {})


@pytest.fixture
def fresh_lock_class(monkeypatch: pytest.MonkeyPatch) -> None:
    """No plain client of this process has made a lock yet."""
    for name in ("lua_release", "lua_extend", "lua_reacquire"):
        monkeypatch.setattr(Lock, name, None)


@pytest.mark.usefixtures("fresh_lock_class")
@pytest.mark.parametrize("own", [False, True], ids=["default", "own class"])
def test_a_lock_doesnt_keep_the_first_requests_client(
    factory: RedisContextFactory, own_lock_class: type[Lock], own: bool
) -> None:
    client = factory.make_object_for_context("foo", None)
    with client.lock("door", timeout=5, lock_class=own_lock_class if own else None):
        pass
    reference = weakref.ref(client)
    del client
    gc.collect()
    assert reference() is None


@pytest.mark.usefixtures("fresh_lock_class")
def test_a_users_own_lock_class_is_used(
    valkey: Server, make_client: MakeClient, own_lock_class: type[Lock], spans: RecordedSpans
) -> None:
    client = make_client(valkey)
    client.script_flush()
    lock = client.lock("door", timeout=5, lock_class=own_lock_class)
    assert isinstance(lock, own_lock_class)
    with lock:
        assert lock.owned()
    assert failures(spans) == []


@pytest.mark.usefixtures("fresh_lock_class")
def test_a_users_own_lock_class_that_a_plain_client_used_first(
    valkey: Server, make_client: MakeClient, own_lock_class: type[Lock], spans: RecordedSpans
) -> None:
    with redis.Redis(port=valkey.port) as plain, plain.lock("other", lock_class=own_lock_class):
        pass
    client = make_client(valkey)
    client.script_flush()
    with client.lock("door", timeout=5, lock_class=own_lock_class):
        pass
    assert failures(spans) == []


@pytest.mark.usefixtures("fresh_lock_class")
def test_a_lock_leaves_plain_clients_locks_alone(valkey: Server, make_client: MakeClient) -> None:
    with make_client(valkey).lock("door", timeout=5):
        pass
    assert (Lock.lua_release, Lock.lua_extend, Lock.lua_reacquire) == (None, None, None)


# Scripts


def test_a_script_that_the_server_doesnt_know_yet_is_no_failure(
    server: Server, make_client: MakeClient, spans: RecordedSpans
) -> None:
    client = make_client(server)
    client.script_flush()
    spans.clear()
    script = client.register_script("return ARGV[1]")
    assert script(args=["hello"]) == b"hello"
    assert spans.names == ["foo.EVALSHA", "foo.SCRIPT LOAD", "foo.EVALSHA"]
    assert [code(span) for span in spans.all] == ["NOSCRIPT", None, None]
    assert failures(spans) == []


def test_a_script_that_a_plain_client_registered_is_no_failure_either(
    server: Server, make_client: MakeClient, spans: RecordedSpans
) -> None:
    client = make_client(server)
    client.script_flush()
    with redis.Redis(port=server.port) as plain:
        script = plain.register_script("return ARGV[1]")
    assert script(args=["hello"], client=client) == b"hello"
    assert failures(spans) == []


def test_a_script_that_fails_is_a_failure(
    server: Server, make_client: MakeClient, spans: RecordedSpans
) -> None:
    client = make_client(server)
    script = client.register_script("return redis.error_reply('MYCODE it failed')")
    with pytest.raises(redis.ResponseError, match="MYCODE"):
        script()
    assert [code(span) for span in spans.all if span.name in failures(spans)][-1] == "MYCODE"


def test_an_unknown_script_that_was_asked_for_by_its_digest_is_a_failure(
    server: Server, make_client: MakeClient, spans: RecordedSpans
) -> None:
    client = make_client(server)
    client.script_flush()
    with pytest.raises(redis.exceptions.NoScriptError):
        client.evalsha("f" * 40, 0)
    assert failures(spans) == ["foo.EVALSHA"]


def test_a_script_uses_the_client_that_it_is_called_with(
    valkey: Server, make_client: MakeClient, spans: RecordedSpans
) -> None:
    script = make_client(valkey).register_script("return 1")
    request = tracer.start_span("request")
    script(client=make_client(valkey, request))
    request.end()
    assert ("foo.EVALSHA", "request") in spans.tree()


# Modules


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


# Other ways to a client


def test_a_client_that_keeps_its_connection(
    server: Server, make_client: MakeClient, spans: RecordedSpans
) -> None:
    request = tracer.start_span("request")
    with make_client(server, request).client() as single:
        assert isinstance(single, MonitoredRedisConnection)
        assert single.client_id() == single.client_id()
    request.end()
    assert spans.tree() == [
        ("request", None),
        ("foo.CLIENT ID", "request"),
        ("foo.CLIENT ID", "request"),
    ]


def test_a_client_that_keeps_its_connection_gives_it_back(
    valkey: Server, make_client: MakeClient
) -> None:
    client = make_client(valkey, max_connections="1", pool_timeout="50 milliseconds")
    with client.client() as single:
        single.ping()
        with pytest.raises(redis.ConnectionError):
            client.ping()
    assert client.ping()


class OfOurOwn(MonitoredRedisConnection):
    """A team's client, whose constructor takes what redis-py passes and nothing else."""

    def __init__(self, connection_pool: Any = None, single_connection_client: bool = False) -> None:
        super().__init__(
            "own",
            connection_pool=connection_pool,
            single_connection_client=single_connection_client,
        )


def test_a_client_that_keeps_its_connection_is_of_a_subclass_with_another_constructor(
    valkey: Server, make_client: MakeClient, spans: RecordedSpans
) -> None:
    with OfOurOwn(make_client(valkey).connection_pool).client() as single:
        assert isinstance(single, OfOurOwn)
        assert single.ping()
    assert spans.names == ["own.PING"]


@pytest.mark.parametrize("port", [7911, "7911"])
def test_positional_arguments_of_redis_py_are_refused(port: Any) -> None:
    with pytest.raises(TypeError, match=r"^server_span: .* pass the arguments of redis.Redis by n"):
        MonitoredRedisConnection("localhost", port)


@pytest.mark.parametrize("host", ["127.0.0.1", "cache-1", "redis://:secret@localhost"])
def test_a_positional_host_is_refused_without_being_quoted(host: str) -> None:
    with pytest.raises(TypeError, match=r"^context_name: .*by name") as caught:
        MonitoredRedisConnection(host)
    assert host not in str(caught.value)


def test_arguments_of_redis_py_may_be_named(valkey: Server) -> None:
    with MonitoredRedisConnection(host="127.0.0.1", port=valkey.port) as client:
        assert client.config_get("port") == {"port": str(valkey.port)}


def test_monitor_is_one_span_and_what_it_shows_none(
    server: Server, make_client: MakeClient, spans: RecordedSpans
) -> None:
    client = make_client(server)
    with redis.Redis(port=server.port) as other, client.monitor() as monitor:
        other.set("key", "value")
        while monitor.next_command()["command"] != "SET key value":
            pass
    assert spans.names == ["foo.MONITOR"]
    assert client.ping()


def test_monitor_that_fails_is_a_failure(
    server: Server, make_client: MakeClient, spans: RecordedSpans
) -> None:
    with redis.Redis(port=server.port) as admin:
        admin.acl_setuser("guest", enabled=True, nopass=True, commands=["+@all", "-monitor"])
        client = make_client(server, username="guest", password="any")
        with pytest.raises(redis.exceptions.NoPermissionError), client.monitor():
            pass
        admin.acl_deluser("guest")
    assert failures(spans) == ["foo.MONITOR"]


def test_from_url_is_monitored(server: Server, spans: RecordedSpans) -> None:
    with MonitoredRedisConnection.from_url(server.url, decode_responses=True) as client:
        client.set("greeting", "hello")
        assert client.get("greeting") == "hello"
    assert spans.names == ["redis.SET", "redis.GET"]
    assert attributes(spans.one("redis.GET"))["server.port"] == server.port


def test_from_pool_is_monitored(server: Server, spans: RecordedSpans) -> None:
    pool = redis.ConnectionPool(port=server.port)
    with MonitoredRedisConnection.from_pool(pool) as client:
        assert client.ping()
    assert spans.names == ["redis.PING"]


def test_the_plain_constructors_keywords_work(server: Server, spans: RecordedSpans) -> None:
    with MonitoredRedisConnection(host="127.0.0.1", port=server.port, db=2) as client:
        assert client.ping()
    assert attributes(spans.one("redis.PING"))["db.namespace"] == "2"


def test_the_reference_arguments_are_positional(valkey: Server, spans: RecordedSpans) -> None:
    pool = pool_from_config({"foo.url": valkey.url}, "foo.")
    with tracer.start_as_current_span("request") as request:
        MonitoredRedisConnection("foo", request, pool).ping()
    pool.disconnect()
    assert ("foo.PING", "request") in spans.tree()


@pytest.fixture
def sentinel(valkey: Server, tmp_path: Path) -> Iterator[Sentinel]:
    """A Valkey in Sentinel mode that watches the session's server."""
    port = free_port()
    configuration = tmp_path / "sentinel.conf"
    configuration.write_text(
        f"port {port}\nbind 127.0.0.1\ndir {tmp_path}\n"
        f"sentinel monitor primary 127.0.0.1 {valkey.port} 1\n"
    )
    command = [server_binary("valkey"), str(configuration), "--sentinel"]
    with TCPExecutor(command, "127.0.0.1", port, timeout=10):
        yield Sentinel([("127.0.0.1", port)], socket_timeout=2)


def test_sentinels_primary_is_monitored(sentinel: Sentinel, spans: RecordedSpans) -> None:
    with sentinel.master_for("primary", redis_class=MonitoredRedisConnection) as client:
        client.set("key", "value")
        client.pipeline("pair").get("key").get("key").execute()
    assert spans.names == ["redis.SET", "redis.pipeline_pair"]


def test_behind_sentinel_no_other_servers_address_is_told(
    sentinel: Sentinel, valkey: Server, spans: RecordedSpans
) -> None:
    with sentinel.master_for("primary", redis_class=MonitoredRedisConnection) as client:
        client.ping()
    told = attributes(spans.one("redis.PING"))
    assert (told.get("server.address"), told.get("server.port")) in [
        ("127.0.0.1", valkey.port),
        (None, None),
    ]
