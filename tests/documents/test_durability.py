"""The page about durability: what survives, what is lost, and how a put waits for a replica."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from pyramid_baseplate_redis import MonitoredRedisConnection

from ..support.servers import MakeClient, Server, running_server, wait_until


class NotReplicatedError(Exception):
    """The message is in the queue, and a failover may lose it."""


def put_replicated(foo: MonitoredRedisConnection, body: str) -> str:
    with foo.client() as client:  # keeps one connection: WAIT is about the writes of its own
        message_id: str = client.durable_queue("jobs").put(body)
        if client.wait(1, 500) < 1:  # replicas, milliseconds
            raise NotReplicatedError(message_id)
    return message_id


@pytest.fixture
def replica(valkey: Server, tmp_path: Path) -> Iterator[Server]:
    options = ["--replicaof", "127.0.0.1", str(valkey.port)]
    with redis.Redis(port=valkey.port) as primary:
        delay = primary.config_get("repl-diskless-sync-delay")
        primary.config_set("repl-diskless-sync-delay", 0)
        with running_server("valkey", tmp_path, *options) as server:
            with redis.Redis(port=server.port) as client:
                wait_until(lambda: client.info("replication")["master_link_status"] == "up")
            yield server
        primary.config_set(*next(iter(delay.items())))


def test_a_put_waits_until_a_replica_has_the_message(
    valkey: Server, replica: Server, make_client: MakeClient
) -> None:
    put_replicated(make_client(valkey), "work")
    with redis.Redis(port=replica.port) as client:
        assert client.xlen("{jobs}:messages") == 1


def test_a_put_shows_that_no_replica_has_the_message(
    valkey: Server, replica: Server, make_client: MakeClient
) -> None:
    process: Any = replica.executor.process
    os.kill(process.pid, signal.SIGSTOP)
    try:
        with pytest.raises(NotReplicatedError):
            put_replicated(make_client(valkey), "work")
    finally:
        os.kill(process.pid, signal.SIGCONT)


@pytest.mark.parametrize(("appendonly", "left"), [("yes", 1), ("no", 0)])
def test_a_killed_server_has_what_its_append_only_file_has(
    appendonly: str, left: int, tmp_path: Path, make_client: MakeClient
) -> None:
    with running_server("valkey", tmp_path, "--appendonly", appendonly) as server:
        make_client(server).durable_queue("jobs").put("work")
        server.kill()
        server.restart()
        assert make_client(server).durable_queue("jobs").stats().length == left


@pytest.mark.parametrize(
    ("policy", "left"), [("noeviction", True), ("volatile-lru", True), ("allkeys-lru", False)]
)
def test_a_full_server_keeps_or_evicts_the_queue(
    policy: str, left: bool, tmp_path: Path, make_client: MakeClient
) -> None:
    with running_server("valkey", tmp_path, "--maxmemory-policy", policy) as server:
        client = make_client(server)
        client.durable_queue("jobs").put("work")
        with redis.Redis(port=server.port) as raw:
            raw.config_set("maxmemory", "1")
            with pytest.raises(redis.OutOfMemoryError):
                raw.set("other", "value")
            assert bool(raw.exists("{jobs}:messages")) is left


def test_a_get_that_is_not_finished_loses_its_message(
    valkey: Server, make_client: MakeClient
) -> None:
    queue = make_client(valkey).durable_queue("jobs")
    queue.put("work")
    queue.get(timeout=0)
    assert queue.stats().length == 0
