"""Which connections and clients send their commands directly."""

from __future__ import annotations

import functools
import select
import socket
import ssl
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import redis
from redis.connection import (
    AbstractConnection,
    DefaultParser,
    Encoder,
    HiredisRespSerializer,
    PythonRespSerializer,
)

from pyramid_baseplate_redis import MonitoredRedisConnection, pool_from_config
from pyramid_baseplate_redis.client.direct_pipeline import is_direct as is_direct_pipeline
from pyramid_baseplate_redis.pool.connection import PooledConnection
from pyramid_baseplate_redis.pool.connections.command_states import state_after
from pyramid_baseplate_redis.pool.direct.connection import DirectConnection
from pyramid_baseplate_redis.pool.direct.packing import DIRECT_COMMANDS
from pyramid_baseplate_redis.pool.direct.qualification import poll_of
from pyramid_baseplate_redis.telemetry.call_details import pop_call_details

from ...support.servers import MakeClient, Server, wait_until


def is_direct(url: str, **keywords: Any) -> bool:
    """Return whether a pool's connection sends commands directly."""
    pool = pool_from_config({"foo.url": url}, "foo.", **keywords)
    connection = pool.get_connection()
    try:
        return bool(connection.is_direct)
    finally:
        pool.release(connection)
        pool.disconnect()


class _OwnSending(redis.Connection):
    def send_packed_command(self, *args: Any, **kwargs: Any) -> None:
        super().send_packed_command(*args, **kwargs)


class _OwnReading(redis.Connection):
    def read_response(self, *args: Any, **kwargs: Any) -> Any:
        return super().read_response(*args, **kwargs)


class _OwnName(redis.Connection):
    def repr_pieces(self) -> Any:
        return [("name", "mine")]


class _Parser(DefaultParser):
    pass


class _Packer(HiredisRespSerializer):
    pass


def test_an_ordinary_connection_is_direct_while_it_is_connected(valkey: Server) -> None:
    pool = pool_from_config({"foo.url": valkey.url}, "foo.")
    connection = pool.get_connection()
    assert connection.is_direct
    connection.disconnect()
    assert not connection.is_direct
    connection.connect()
    assert connection.is_direct
    pool.release(connection)
    assert not connection.is_direct  # its caller has no connection any longer
    pool.disconnect()


def _shown(value: Any) -> str:
    """An identifier without the address of an object, which differs between workers."""
    if not isinstance(value, dict):
        return str(value)
    return ",".join(getattr(each, "__name__", type(each).__name__) for each in value.values())


_ENCODER = Encoder("utf-8", "strict", False)


@pytest.mark.parametrize(
    ("keywords", "expected"),
    [
        ({}, True),
        ({"decode_responses": True}, True),
        ({"protocol": 2}, True),
        ({"connection_class": _OwnName}, True),
        ({"connection_class": _OwnSending}, False),
        ({"connection_class": _OwnReading}, False),
        ({"parser_class": _Parser}, False),
        ({"command_packer": _Packer()}, False),
        ({"command_packer": PythonRespSerializer(6000, _ENCODER.encode)}, False),
        ({"health_check_interval": 10}, False),
    ],
    ids=_shown,
)
def test_a_connection_with_something_of_the_applications_is_not(
    valkey: Server, keywords: dict[str, Any], expected: bool
) -> None:
    assert is_direct(valkey.url, **keywords) is expected


@pytest.mark.parametrize("cls", [AbstractConnection, redis.Connection, PooledConnection])
@pytest.mark.parametrize("step", ["send_packed_command", "read_response"])
def test_an_instrumented_connection_is_not(
    valkey: Server, monkeypatch: pytest.MonkeyPatch, cls: Any, step: str
) -> None:
    original = getattr(cls, step)

    @functools.wraps(original)
    def instrumented(*args: Any, **kwargs: Any) -> Any:
        return original(*args, **kwargs)

    assert is_direct(valkey.url)
    monkeypatch.setattr(cls, step, instrumented)
    assert not is_direct(valkey.url)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The commands that were sent directly."""
    found = []
    ask = DirectConnection.ask

    def noted(self: Any, args: Any, *rest: Any, **kwargs: Any) -> Any:
        found.append(args)
        return ask(self, args, *rest, **kwargs)

    monkeypatch.setattr(DirectConnection, "ask", noted)
    return found


class _Client(MonitoredRedisConnection):
    def parse_response(self, *args: Any, **options: Any) -> Any:
        return "mine"


def test_a_client_that_parses_replies_itself_gets_them(
    valkey: Server, make_client: MakeClient, asked: list[Any]
) -> None:
    client = make_client(valkey)
    assert client.get("key") is None
    assert asked
    asked.clear()

    assert _Client("foo", None, client.connection_pool).get("key") == "mine"
    own: Callable[..., str] = lambda *args, **options: "mine"  # noqa: E731
    client.parse_response = own  # type: ignore[method-assign]
    assert client.get("key") == "mine"
    assert not asked


def test_a_factory_of_plain_connections_may_take_the_place_of_a_class(valkey: Server) -> None:
    pool = pool_from_config(
        {"foo.url": valkey.url},
        "foo.",
        connection_class=lambda **keywords: redis.Connection(**keywords),
    )
    client = MonitoredRedisConnection("foo", None, pool)
    assert client.echo("hello") == b"hello"
    pool.disconnect()


def test_retries_go_directly_too(valkey: Server, make_client: MakeClient, asked: list[Any]) -> None:
    client = make_client(valkey, retries="2")
    client.set("key", "value")
    assert client.get("key") == b"value"
    assert len(asked) == 2


def test_no_direct_command_changes_the_state_of_its_connection() -> None:
    assert state_after("watch") is not None
    assert not [name for name in DIRECT_COMMANDS if state_after(name) is not None]
    assert {"GET", "SET", "HGETALL", "EVALSHA", "XADD", "PING"} <= DIRECT_COMMANDS


def test_a_socket_with_tls_or_of_gevent_is_left_to_redis_py(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Poll:
        """Like the one that gevent puts in the place of ``select.poll``."""

        def register(self, *args: Any) -> None:
            pass

        def poll(self, *args: Any) -> list[Any]:
            return []

    plain, other = socket.socketpair()
    with plain, other:
        assert poll_of(plain) is not None
        with monkeypatch.context() as patch:
            patch.setattr(select, "poll", Poll)
            assert poll_of(plain) is None
        with monkeypatch.context() as patch:
            patch.delattr(select, "poll")  # as on Windows
            assert poll_of(plain) is None
    context = ssl.create_default_context()
    with context.wrap_socket(socket.socket(), server_hostname="redis.example") as wrapped:
        assert poll_of(wrapped) is None


def test_a_check_out_notices_what_was_received_or_closed(valkey: Server) -> None:
    pool = pool_from_config({"foo.url": valkey.url}, "foo.")
    connection = pool.get_connection()
    assert connection.is_quiet()
    connection.send_command("PING")
    wait_until(lambda: not connection.is_quiet())
    assert connection.read_response() in (b"PONG", "PONG")
    assert connection.is_quiet()
    connection.mark_for_reconnect()
    assert not connection.is_quiet()
    connection.reset_should_reconnect()
    connection.shutdown_socket()
    assert not connection.is_quiet()
    pool.release(connection)
    pool.disconnect()


@pytest.mark.parametrize(
    ("revision", "is_current"), [(None, True), (0, True), (1, False)], ids=["none", "same", "newer"]
)
def test_a_pipeline_after_a_change_of_fieldsets_is_left_to_redis_py(
    valkey: Server, make_client: MakeClient, revision: int | None, is_current: bool
) -> None:
    """redis-py then sends HIMPORT commands before those of the pipeline."""
    client = make_client(valkey)
    connection: Any = client.connection_pool.get_connection()
    if revision is None:  # redis-py 8.0
        connection.himport_registry = None
    else:
        connection._himport_reconciled_revision = 0
        connection.himport_registry = SimpleNamespace(revision=revision)

    with client.pipeline(transaction=False) as pipeline:
        pipeline.get("key")
        commands = pipeline.command_stack
        assert connection.has_current_fieldsets is is_current
        assert is_direct_pipeline(pipeline, connection, commands) is is_current
    connection.disconnect()
    client.connection_pool.release(connection)


def test_a_connection_to_a_node_notes_it_with_each_command(
    valkey: Server, make_client: MakeClient
) -> None:
    pool = make_client(valkey).connection_pool
    connection: Any = pool.get_connection()
    connection.is_node = True
    pop_call_details()
    connection.ask(("GET", "key"))
    details = pop_call_details()
    pool.release(connection)

    assert details is not None
    assert details.server == ("127.0.0.1", valkey.port)
