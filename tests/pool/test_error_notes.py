"""An error that a server replied with has a note with the client and the server."""

from __future__ import annotations

import pickle
import sys
import traceback
from collections.abc import Callable
from typing import Any

import pytest
import redis

from pyramid_baseplate_redis import MonitoredRedisConnection
from pyramid_baseplate_redis.pool.error_messages import note_client

from ..support.servers import MakeClient, Server
from .conftest import MakePool

WRONG_TYPE = "WRONGTYPE Operation against a key holding the wrong kind of value"
SECRET = "s3cr3t"
with_notes = pytest.mark.skipif(sys.version_info < (3, 11), reason="Python 3.10 has no notes")


@pytest.fixture
def client(valkey: Server, make_client: MakeClient) -> MonitoredRedisConnection:
    made = make_client(valkey)
    made.set("text", "value")
    return made


def notes(error: BaseException) -> list[str]:
    return list(getattr(error, "__notes__", ()))


def note_of(client: MonitoredRedisConnection, server: Server) -> str:
    return f"{client.context_name}: the server 127.0.0.1:{server.port} replied with this error"


def in_transaction(client: MonitoredRedisConnection, transaction: bool) -> Any:
    with client.pipeline(transaction=transaction) as pipeline:
        return pipeline.lpush("text", "item").execute()


def watching(client: MonitoredRedisConnection) -> Any:
    with client.pipeline() as pipeline:
        pipeline.watch("text")
        return pipeline.lpush("text", "item")


CALLS: dict[str, Callable[[MonitoredRedisConnection], Any]] = {
    "command": lambda client: client.lpush("text", "item"),
    "transaction": lambda client: in_transaction(client, True),
    "pipeline": lambda client: in_transaction(client, False),
    "watched": watching,
    "own connection": lambda client: client.client().lpush("text", "item"),
}


@with_notes
@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS.keys())
def test_it_names_client_and_server(
    client: MonitoredRedisConnection, valkey: Server, call: Callable[..., Any]
) -> None:
    with pytest.raises(redis.ResponseError, match=WRONG_TYPE) as raised:
        call(client)
    note = note_of(client, valkey)
    assert notes(raised.value) == [note]
    assert traceback.format_exception(raised.value)[-1] == f"{note}\n"


@with_notes
def test_it_names_them_if_the_login_fails(make_pool: MakePool, valkey: Server) -> None:
    pool = make_pool(f"redis://127.0.0.1:{valkey.port}/9999")
    with pytest.raises(redis.ResponseError) as raised:
        pool.get_connection()
    assert str(raised.value) == "DB index is out of range"
    assert notes(raised.value) == [
        f"foo: the server 127.0.0.1:{valkey.port} replied with this error"
    ]


def test_the_text_and_the_arguments_are_redis_py_s(
    client: MonitoredRedisConnection, valkey: Server
) -> None:
    with (
        redis.Redis(port=valkey.port) as plain,
        pytest.raises(redis.ResponseError) as expected,
    ):
        plain.lpush("text", SECRET)
    with pytest.raises(redis.ResponseError) as raised:
        client.lpush("text", SECRET)
    assert type(raised.value) is type(expected.value)
    assert raised.value.args == expected.value.args
    assert SECRET not in "".join(notes(raised.value))


@with_notes
def test_an_error_that_is_raised_again_has_one_note(make_pool: MakePool) -> None:
    connection = make_pool().get_connection()
    error = redis.ResponseError("WRONGTYPE")
    for _ in range(2):
        note_client(error, "foo", connection)
    assert len(notes(error)) == 1
    assert notes(pickle.loads(pickle.dumps(error))) == notes(error)


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_an_error_that_is_no_refusal_of_a_replica_closes_nothing(
    client: MonitoredRedisConnection, call: Callable[[MonitoredRedisConnection], Any]
) -> None:
    with pytest.raises(redis.ResponseError) as caught:
        call(client)

    assert not getattr(caught.value, "unsent", False)  # or a retry would send it again
    assert client.connection_pool.stats.discards == 0
