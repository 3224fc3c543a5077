"""MessageQueue: it can be made from any client or pool, and keeps the client's settings."""

from __future__ import annotations

import threading
from contextlib import closing

import pytest
import redis

from pyramid_baseplate_redis import MessageQueue, TimedOutError

from ...support.servers import MakeClient, RecordedSpans, Server, wait_until
from .conftest import blocked_clients, in_background, other_client, tracer


@pytest.mark.parametrize("decoded", [False, True], ids=["bytes", "decoded"])
def test_a_queue_on_a_plain_client(server: Server, decoded: bool) -> None:
    with redis.Redis(port=server.port, socket_timeout=0.2, decode_responses=decoded) as client:
        queue = MessageQueue("jobs", client)
        with pytest.raises(TimedOutError):
            queue.get(0)
        timer = threading.Timer(0.4, queue.put, ["late"])
        timer.start()
        assert queue.get(5) == b"late"
        timer.join()


@pytest.mark.parametrize("pool_class", [redis.ConnectionPool, redis.BlockingConnectionPool])
def test_a_queue_on_a_plain_pool(server: Server, pool_class: type[redis.ConnectionPool]) -> None:
    with closing(pool_class(port=server.port, decode_responses=True)) as pool:
        queue = MessageQueue("jobs", pool)
        queue.put("a message")
        assert queue.get(1) == b"a message"


def test_a_queue_on_a_client_that_keeps_its_connection(
    server: Server, make_client: MakeClient, spans: RecordedSpans
) -> None:
    request = tracer.start_span("request")
    client = make_client(server, request, max_connections="1", pool_timeout="0 seconds")
    with client.client() as single:
        queue = single.message_queue("jobs")
        queue.put("a message")
        assert queue.get(1) == b"a message"
        with pytest.raises(TimedOutError):
            queue.get(0)
    request.end()
    assert spans.tree() == [("request", None), ("foo.RPUSH", "request"), ("foo.BLPOP", "request")]


def test_threads_take_turns_on_a_kept_connection(valkey: Server, make_client: MakeClient) -> None:
    with make_client(valkey).client() as single:
        queue = single.message_queue("jobs")

        def work(number: int) -> list[bool]:
            right = []
            for turn in range(100):
                queue.put(b"a message")
                text = f"{number}-{turn}".encode()
                right += [single.echo(text) == text, queue.get(0) == b"a message"]
            return right

        working = [in_background(lambda number=number: work(number)) for number in range(4)]
        assert all(all(future.result(10)) for future in working)


def test_a_kept_connection_outlives_the_server(mortal: Server, make_client: MakeClient) -> None:
    with make_client(mortal).client() as single:
        queue = single.message_queue("jobs")
        waiting = in_background(lambda: queue.get(None))
        wait_until(lambda: blocked_clients(mortal))
        mortal.kill()
        mortal.restart()
        with other_client(mortal) as other:
            other.put(b"late")
        assert waiting.result(10) == b"late"


@pytest.mark.parametrize("made_from", ["pool", "client"])
def test_a_queue_without_a_request_is_monitored_while_a_span_is_current(
    server: Server, make_client: MakeClient, spans: RecordedSpans, made_from: str
) -> None:
    pool = make_client(server).connection_pool
    queue = MessageQueue("jobs", pool if made_from == "pool" else redis.Redis(connection_pool=pool))
    queue.put("unseen")
    queue.get(1)
    with tracer.start_as_current_span("worker"):
        queue.put("seen")
        queue.get(1)
    assert spans.tree() == [("worker", None), ("foo.RPUSH", "worker"), ("foo.BLPOP", "worker")]


def test_a_queue_on_a_pool_of_redis_pys_own_is_monitored_too(
    server: Server, spans: RecordedSpans
) -> None:
    with (
        closing(redis.ConnectionPool(port=server.port)) as pool,
        tracer.start_as_current_span("worker"),
    ):
        MessageQueue("jobs", pool).put("a message")
        MessageQueue("jobs", pool).unlink()
    assert spans.names == ["worker", "redis.RPUSH", "redis.UNLINK"]


@pytest.mark.parametrize(
    ("settings", "names"),
    [
        ({"trace": "off"}, []),
        ({"trace": "pipelines"}, []),
        ({"trace_exclude": "BLPOP"}, ["foo.RPUSH"]),
    ],
)
@pytest.mark.parametrize("made_from", ["pool", "monitored client"])
def test_a_queue_heeds_the_clients_trace_settings(
    valkey: Server,
    make_client: MakeClient,
    spans: RecordedSpans,
    settings: dict[str, str],
    names: list[str],
    made_from: str,
) -> None:
    client = make_client(valkey, **settings)
    queue = MessageQueue("jobs", client.connection_pool if made_from == "pool" else client)
    with tracer.start_as_current_span("worker"):
        queue.put("a message")
        queue.get(1)
    assert spans.names == ["worker", *names]
