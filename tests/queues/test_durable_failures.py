"""DurableMessageQueue: nothing is lost while the server or the group comes and goes."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest
import redis

from pyramid_baseplate_redis import DurableMessageQueue, is_retryable

from ..faults.proxy import Proxy
from ..support.servers import MakeClient, Server, running_server, wait_until
from .conftest import STREAM, die_with_message, let_leases_run_out


@pytest.mark.parametrize("kind", ["plain client", "monitored client"])
def test_a_put_whose_reply_was_lost_is_not_sent_again(
    valkey: Server, make_client: MakeClient, kind: str
) -> None:
    with Proxy(valkey.port) as proxy, redis.Redis(port=valkey.port) as raw:
        client = (
            redis.Redis(port=proxy.port)  # which has ten retries
            if kind == "plain client"
            else make_client(f"redis://127.0.0.1:{proxy.port}", retries="5")
        )
        queue = DurableMessageQueue("jobs", client)
        queue.stats()  # it is connected
        proxy.lose_replies(True)
        with pytest.raises(redis.ConnectionError) as caught:
            queue.put("job")
        assert is_retryable(caught.value) is None
        wait_until(lambda: raw.xlen(STREAM))
        proxy.lose_replies(False)
        assert queue.stats().length == 1
        client.close()


def test_a_put_that_was_not_sent_is_tried_again_as_the_clients_settings_say(
    valkey: Server, make_client: MakeClient
) -> None:
    with Proxy(valkey.port) as proxy:
        client = make_client(f"redis://127.0.0.1:{proxy.port}", retries="100")
        queue = client.durable_queue("jobs")
        proxy.refuse(True)
        again = threading.Timer(0.3, proxy.refuse, (False,))
        again.start()
        queue.put("job")
        again.join()
        assert queue.stats().length == 1


def test_a_message_whose_reply_was_lost_comes_back(valkey: Server, make_client: MakeClient) -> None:
    with Proxy(valkey.port) as proxy, redis.Redis(port=valkey.port) as raw:
        queue = make_client(f"redis://127.0.0.1:{proxy.port}").durable_queue("jobs")
        queue.put("job")
        raw.xgroup_create(STREAM, "workers", "0")
        proxy.lose_replies(True)
        with pytest.raises(redis.ConnectionError):
            queue._group.read(1, 0)
        proxy.lose_replies(False)
        wait_until(lambda: raw.xpending(STREAM, "workers")["pending"])
        let_leases_run_out(raw)
        with queue.receive(5) as message:
            assert (message.body, message.attempts) == (b"job", 2)


def test_waiting_for_ever_survives_a_restart(
    tmp_path: Path, make_client: MakeClient, caplog: pytest.LogCaptureFixture
) -> None:
    options = ["--appendonly", "yes"]
    with running_server("valkey", tmp_path, *options) as server:
        queue = make_client(server).durable_queue("jobs")
        got: list[bytes] = []
        thread = threading.Thread(target=lambda: got.append(queue.get()), daemon=True)
        with redis.Redis(port=server.port) as raw:
            thread.start()
            wait_until(lambda: raw.info("clients")["blocked_clients"])
            server.kill()
            wait_until(lambda: "waiting for the server" in caplog.text)
            server.restart()
            queue.put("job")
            thread.join(20)
    assert got == [b"job"]


def test_a_group_that_was_deleted_is_made_anew_and_nothing_is_lost(
    queue: DurableMessageQueue, raw: Any
) -> None:
    queue.put_many(["a", "b"])
    die_with_message(queue)
    raw.xgroup_destroy(STREAM, "workers")
    assert [queue.get(5), queue.get(5)] == [b"a", b"b"]


def test_a_message_is_acknowledged_though_its_group_was_deleted(
    queue: DurableMessageQueue, raw: Any
) -> None:
    queue.put("job")
    with queue.receive(5):
        raw.xgroup_destroy(STREAM, "workers")
    assert queue.stats().length == 0


def test_a_queue_that_is_removed_while_a_consumer_waits_is_made_anew(
    queue: DurableMessageQueue, other: DurableMessageQueue, raw: Any
) -> None:
    queue.put("a")
    queue.get(5)

    def remove() -> None:
        wait_until(lambda: raw.info("clients")["blocked_clients"])
        other.unlink()
        other.put("b")

    thread = threading.Thread(target=remove)
    thread.start()
    assert queue.get(10) == b"b"
    thread.join()
