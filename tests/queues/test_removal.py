"""DurableMessageQueue: acknowledging takes XACKDEL where the server has it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from pyramid_baseplate_redis import LeaseLostError
from pyramid_baseplate_redis.queues.settling import removal

from ..support.servers import MakeClient, RecordedSpans, Server, needs_redis_8, running_server
from .conftest import STREAM, die_with_message


@pytest.fixture
def redis_8(tmp_path: Path) -> Iterator[Server]:
    """Redis 8.2, which has XACKDEL."""
    with running_server("redis-8.2", tmp_path) as server:
        yield server


def commands_of(raw: Any) -> dict[str, int]:
    names = {"xackdel", "xdel", "xack"}
    stats = {name.removeprefix("cmdstat_"): each for name, each in raw.info("commandstats").items()}
    return {name: stats[name]["calls"] for name in names & stats.keys()}


@needs_redis_8
def test_a_message_is_removed_in_one_command(
    redis_8: Server, make_client: MakeClient, spans: RecordedSpans
) -> None:
    client = make_client(redis_8)
    queue = client.durable_queue("jobs")
    queue.put_many(["a", "b", "c"])
    queue.get(5)
    with queue.receive_many(2, 5):
        pass
    with redis.Redis(port=redis_8.port) as raw:
        assert commands_of(raw) == {"xackdel": 3}  # one of them asks whether there is one
        assert (raw.xlen(STREAM), raw.xpending(STREAM, "workers")["pending"]) == (0, 0)
    names = [(span.attributes or {})["db.operation.name"] for span in spans.named("ack jobs")]
    assert names == ["XACKDEL", "XACKDEL"]


@needs_redis_8
def test_an_entry_that_is_not_pending_is_deleted_as_well(
    redis_8: Server, make_client: MakeClient
) -> None:
    queue = make_client(redis_8).durable_queue("jobs")
    queue.put("job")
    with queue.receive(5), redis.Redis(port=redis_8.port) as raw:
        raw.xgroup_destroy(STREAM, "workers")
    assert queue.stats().length == 0


@needs_redis_8
def test_a_message_that_another_consumer_has_finished_is_a_lost_lease(
    redis_8: Server, make_client: MakeClient
) -> None:
    queue = make_client(redis_8).durable_queue("jobs")
    put = queue.put("job")
    message = die_with_message(queue)
    with redis.Redis(port=redis_8.port) as raw:
        raw.xack(STREAM, "workers", put)
        raw.xdel(STREAM, put)
    with pytest.raises(LeaseLostError, match="finished by another consumer"):
        message.acknowledge()


@needs_redis_8
def test_a_full_server_of_redis_8_is_emptied(redis_8: Server, make_client: MakeClient) -> None:
    queue = make_client(redis_8).durable_queue("jobs")
    queue.put_many(["a", "b"])
    queue.get(5)
    with redis.Redis(port=redis_8.port) as raw:
        raw.config_set("maxmemory", "1")
        assert queue.get(5) == b"b"
        assert commands_of(raw) == {"xackdel": 3}


@needs_redis_8
def test_an_account_that_may_not_is_no_hindrance(redis_8: Server, make_client: MakeClient) -> None:
    with redis.Redis(port=redis_8.port) as raw:
        raw.execute_command("ACL", "SETUSER", "default", "-xackdel")
        queue = make_client(redis_8).durable_queue("jobs")
        for body in (b"a", b"b"):
            queue.put(body)
            assert queue.get(5) == body
        stats = raw.info("commandstats")
        assert stats["cmdstat_xackdel"]["rejected_calls"] == 1
        assert commands_of(raw) == {"xackdel": 0, "xdel": 2, "xack": 2}


@pytest.mark.parametrize("known", [None, True])
def test_another_server_is_asked_once(
    valkey: Server, make_client: MakeClient, known: bool | None
) -> None:
    """Also if an older server has taken over from one that has the command."""
    client = make_client(valkey)
    if known is not None:
        removal._has_xackdel[client.connection_pool] = known
    with redis.Redis(port=valkey.port) as raw:
        raw.config_resetstat()
        for body in (b"a", b"b"):
            queue = client.durable_queue("jobs")  # as each request has its own
            queue.put(body)
            assert queue.get(5) == body
        assert commands_of(raw) == {"xdel": 2, "xack": 2}
        assert raw.info("errorstats")["errorstat_ERR"]["count"] == 1
