"""A queue of a client that keeps one connection never takes another command's reply."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from pyramid_baseplate_redis import MonitoredRedisConnection, TimedOutError

from ..support.servers import MakeClient, Server


@pytest.fixture
def own(valkey: Server, make_client: MakeClient) -> Iterator[MonitoredRedisConnection]:
    """A client with one connection, on which the reply to a GET was not read."""
    client = make_client(valkey)
    client.set("secret", "another command's reply")
    with client.client() as made:
        made.ping()
        made.connection.send_command("GET", "secret")
        yield made


def test_a_message_queue_gets_its_message(own: MonitoredRedisConnection, valkey: Server) -> None:
    queue = own.message_queue("jobs")
    with pytest.raises(TimedOutError):
        queue.get(timeout=0)
    queue.put("message")
    assert queue.get(timeout=0) == b"message"


def test_a_durable_queue_gets_its_message(own: MonitoredRedisConnection) -> None:
    queue = own.durable_queue("jobs")
    queue.put("message")
    with queue.receive(timeout=1) as message:
        assert message.body == b"message"
