"""Each message of the troubleshooting page is the text of an error that really occurs."""

from __future__ import annotations

import re
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import redis

from pyramid_baseplate_redis import DurableMessageQueue, MessageQueue

from ..support.servers import MakeClient, Server

PAGE = (Path(__file__).parents[2] / "docs/troubleshooting/index.rst").read_text()
MESSAGES = dict(
    re.findall(r"^(.+)\n~+\n\n(?:[^\n.].*\n+)*\.\. code-block:: text\n\n    (.+)$", PAGE, re.M)
)
URL = {"foo__url": "redis://localhost:6379/0"}
SETTINGS: dict[str, dict[str, str]] = {
    "A time without a unit": {**URL, "foo__socket_timeout": "3"},
    "An unknown setting": {**URL, "foo__sockettimeout": "3 seconds"},
    "A URL without a scheme": {"foo__url": "localhost:6379"},
    "A variable that is not set": {"foo__url_env": "REDIS_URL"},
    "A password with special characters": {"foo__url": "redis://:p/w#x@localhost:6379"},
    "A name that Pyramid uses": {"session__url": "redis://localhost:6379/0"},
    "A comment after a value": {**URL, "foo__retries": "3 # three"},
}
Failure = Callable[[MakeClient, Server], object]


@pytest.mark.parametrize("heading", SETTINGS)
def test_settings(make_config: Any, monkeypatch: pytest.MonkeyPatch, heading: str) -> None:
    monkeypatch.delenv("REDIS_URL", raising=False)
    with pytest.raises(Exception) as caught:  # noqa: PT011 (compared below)
        make_config(**SETTINGS[heading]).make_wsgi_app()

    assert str(getattr(caught.value, "evalue", caught.value)) == MESSAGES[heading]


def test_no_client_at_all(make_config: Any, caplog: pytest.LogCaptureFixture) -> None:
    make_config().make_wsgi_app()

    assert caplog.messages == [MESSAGES["No client at all"]]


@contextmanager
def silent_server() -> Iterator[str]:
    """A server that accepts connections and never replies."""
    with socket.create_server(("localhost", 0)) as listening:
        yield f"redis://localhost:{listening.getsockname()[1]}/0"


def wait_for_a_reply(make_client: MakeClient, valkey: Server) -> None:
    with silent_server() as url:
        make_client(url, socket_timeout="100 ms").get("key")


def wait_for_a_connection(make_client: MakeClient, valkey: Server) -> None:
    client = make_client(valkey, max_connections="1", pool_timeout="100 ms")
    connection = client.connection_pool.get_connection()
    try:
        client.get("key")
    finally:
        client.connection_pool.release(connection)


def open_the_breaker(make_client: MakeClient, valkey: Server) -> None:
    client = make_client("redis://localhost:1/0", breaker_failures="1")
    with suppress(redis.ConnectionError):
        client.get("key")
    client.get("key")


def exceed_the_deadline(make_client: MakeClient, valkey: Server) -> None:
    client = make_client(valkey, deadline="500 ms")
    client.blpop("nothing", timeout=1)


def release_twice(make_client: MakeClient, valkey: Server) -> None:
    pool = make_client(valkey).connection_pool
    pool.release(pool.make_connection())


def push_on_text(make_client: MakeClient, valkey: Server) -> None:
    client = make_client(valkey)
    client.set("key", "value")
    client.lpush("key", "element")


def fill_the_queue(make_client: MakeClient, valkey: Server) -> None:
    DurableMessageQueue("jobs", make_client(valkey), max_length=1).put_many(["one", "two"])


FAILURES: dict[str, Failure] = {
    "The server cannot be reached": lambda make, _: make("redis://localhost:1/0").get("key"),
    "The server does not answer in time": wait_for_a_reply,
    "All connections are in use": wait_for_a_connection,
    "The circuit breaker is open": open_the_breaker,
    "The time is up": exceed_the_deadline,
    "A connection was released twice": release_twice,
    "A key of another type": push_on_text,
    "The queue is full": fill_the_queue,
    "The queue is empty": lambda make, valkey: MessageQueue("jobs", make(valkey)).get(timeout=0),
    "A message that waits for a transaction": lambda make, valkey: DurableMessageQueue(
        "jobs", make(valkey)
    ).put("message", after_commit=True),
}


def masked(message: str) -> str:
    """Leave out what differs from run to run: addresses, and the time that a phase took."""
    message = re.sub(r"(localhost|127\.0\.0\.1):\d+", "<address>", message)
    return re.sub(r"\([\d.]+ seconds [^()]+\)", "(<phases>)", message)


@pytest.mark.parametrize("heading", FAILURES)
def test_a_command_that_fails(make_client: MakeClient, valkey: Server, heading: str) -> None:
    with pytest.raises(Exception) as caught:  # noqa: PT011 (compared below)
        FAILURES[heading](make_client, valkey)

    assert masked(str(caught.value)) == masked(MESSAGES[heading])


def test_each_message_is_tested() -> None:
    assert MESSAGES.keys() == {*SETTINGS, *FAILURES, "No client at all"}
    assert len(MESSAGES) == PAGE.count(".. code-block:: text")
