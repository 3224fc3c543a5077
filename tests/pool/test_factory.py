"""Pools: what the settings do to real connections, and what a pool survives."""

from __future__ import annotations

import ast
import contextlib
import pathlib
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis
import trustme
from cryptography.hazmat.primitives import serialization
from pyramid.config import Configurator
from pyramid.exceptions import ConfigurationExecutionError
from redis.backoff import NoBackoff
from redis.cache import CacheConfig, DefaultCache
from redis.retry import Retry

from pyramid_baseplate_redis import (
    BlockingConnectionPool,
    ConfigurationError,
    MonitoredRedisConnection,
    RedisClient,
    cluster_pool_from_config,
    pool_from_config,
    sentinel_pool_from_config,
)

from ..support.servers import (
    RecordedSpans,
    Server,
    attributes,
    free_port,
    needs_debian_redis,
    running_server,
)

WAIT_TIME = "db.client.connection.wait_time"


def make_pool(url: str, /, **settings: Any) -> redis.BlockingConnectionPool:
    """The pool of a client named foo; what starts with two underscores is a keyword argument."""
    app_config = {f"foo.{k}": v for k, v in settings.items() if not k.startswith("__")}
    kwargs = {k[2:]: v for k, v in settings.items() if k.startswith("__")}
    return pool_from_config({"foo.url": url, **app_config}, prefix="foo.", **kwargs)


@contextlib.contextmanager
def client_of(pool: redis.ConnectionPool) -> Iterator[redis.Redis]:
    try:
        yield redis.Redis(connection_pool=pool)
    finally:
        pool.disconnect()


@contextlib.contextmanager
def client(url: str, /, **settings: Any) -> Iterator[redis.Redis]:
    with client_of(make_pool(url, **settings)) as made:
        yield made


def wait_until(condition: Callable[[], Any], seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.005)


class Listener:
    """A port that answers nobody: it counts who connects, and hangs up."""

    def __init__(self) -> None:
        self._socket = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port: int = self._socket.getsockname()[1]
        self.url = f"redis://127.0.0.1:{self.port}"
        self.connections = 0
        self._thread: threading.Thread | None = None

    def waiting(self) -> bool:
        """Whether somebody has connected; for a listener that isn't hanging up."""
        self._socket.setblocking(False)
        try:
            self._socket.accept()[0].close()
        except BlockingIOError:
            return False
        return True

    def hang_up(self) -> None:
        """From now on, close every connection as soon as it is there."""
        self._socket.setblocking(True)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while True:
            connection, _ = self._socket.accept()
            self.connections += 1
            connection.close()

    def attempts(self, make: Callable[[], Any]) -> int:
        """How often somebody connected while a call failed."""
        before = self.connections
        with pytest.raises(redis.ConnectionError):
            make()
        return self.connections - before


@pytest.fixture
def listener() -> Listener:
    return Listener()


# Building a pool


def test_building_a_pool_opens_no_socket(listener: Listener) -> None:
    pool = make_pool(listener.url, retries="3", health_check_interval="1 second")
    redis.Redis(connection_pool=pool)
    MonitoredRedisConnection("foo", None, pool).pipeline()
    assert not listener.waiting()


def test_the_first_command_opens_a_socket(listener: Listener) -> None:
    # What the test above would see if building the pool connected.
    with (
        client(listener.url, socket_timeout="50 ms") as redis_client,
        contextlib.suppress(redis.RedisError),
    ):
        redis_client.ping()
    assert listener.waiting()


def test_a_pool_from_four_lines_of_settings_works(server: Server) -> None:
    pool = pool_from_config(
        {
            "redis.url": server.url,
            "redis.max_connections": "99",
            "redis.socket_connect_timeout": "3 seconds",
            "redis.socket_timeout": "200 milliseconds",
        }
    )
    with client_of(pool) as redis_client:
        redis_client.set("greeting", "hello")
        assert redis_client.get("greeting") == b"hello"


def test_the_pool_is_a_blocking_one_of_redis_py() -> None:
    assert isinstance(make_pool("redis://localhost"), redis.BlockingConnectionPool)


def test_the_defaults_of_a_pool_are_ours() -> None:
    pool = make_pool("redis://localhost")
    assert (pool.max_connections, pool.timeout) == (50, 5.0)


def test_the_defaults_of_a_connection_are_ours() -> None:
    connection = make_pool("redis://localhost").make_connection()
    assert {
        "host": connection.host,
        "port": connection.port,
        "db": connection.db,
        "socket_timeout": connection.socket_timeout,
        "socket_connect_timeout": connection.socket_connect_timeout,
        "socket_keepalive": connection.socket_keepalive,
        "health_check_interval": connection.health_check_interval,
        "retries": connection.retry.get_retries(),
        "client_name": connection.client_name,
        "decode_responses": connection.encoder.decode_responses,
        "protocol": connection.protocol,
    } == {
        "host": "localhost",
        "port": 6379,
        "db": 0,
        "socket_timeout": 5.0,
        "socket_connect_timeout": 5.0,
        "socket_keepalive": True,
        "health_check_interval": 0.0,
        "retries": 0,
        "client_name": None,
        "decode_responses": False,
        "protocol": 3,
    }


def test_the_defaults_of_a_tls_connection_check_certificate_and_host_name() -> None:
    connection = make_pool("rediss://localhost").make_connection()
    assert {
        "cert_reqs": connection.cert_reqs,
        "check_hostname": connection.check_hostname,
        "ssl_min_version": connection.ssl_min_version,
    } == {
        "cert_reqs": ssl.CERT_REQUIRED,
        "check_hostname": True,
        "ssl_min_version": ssl.TLSVersion.TLSv1_2,
    }


def test_what_tls_connections_get_can_be_written_into_source_code() -> None:
    # RQ's SpawnWorker writes it into the source of the process that it starts, without what
    # redis-py itself passes there.
    keywords = make_pool("rediss://localhost").connection_kwargs
    tls = {key: value for key, value in keywords.items() if key.startswith("ssl_")}
    assert ast.literal_eval(repr(tls)) == tls


@pytest.mark.parametrize(
    ("key", "text", "attribute", "value"),
    [
        ("socket_timeout", "200 milliseconds", "socket_timeout", 0.2),
        ("socket_connect_timeout", "3 seconds", "socket_connect_timeout", 3.0),
        ("socket_keepalive", "false", "socket_keepalive", False),
        ("health_check_interval", "30 seconds", "health_check_interval", 30.0),
        ("protocol", "2", "protocol", 2),
        ("client_name", "web-1", "client_name", "web-1"),
    ],
)
def test_a_setting_reaches_the_connection(key: str, text: str, attribute: str, value: Any) -> None:
    connection = make_pool("redis://localhost", **{key: text}).make_connection()
    assert getattr(connection, attribute) == value


@pytest.mark.parametrize(
    ("key", "text", "attribute", "value"),
    [("max_connections", "7", "max_connections", 7), ("pool_timeout", "0 s", "timeout", 0.0)],
)
def test_a_setting_reaches_the_pool(key: str, text: str, attribute: str, value: Any) -> None:
    assert getattr(make_pool("redis://localhost", **{key: text}), attribute) == value


@pytest.mark.parametrize("scheme", ["redis", "valkey"])
def test_a_plain_scheme_makes_plain_connections(scheme: str) -> None:
    assert make_pool(f"{scheme}://h").connection_class is redis.Connection


@pytest.mark.parametrize("scheme", ["rediss", "valkeys"])
def test_a_tls_scheme_makes_tls_connections(scheme: str) -> None:
    assert make_pool(f"{scheme}://h").connection_class is redis.SSLConnection


# What a real server sees of the settings


def test_the_server_sees_the_client_name(valkey: Server) -> None:
    with client(valkey.url, client_name="web-1") as redis_client:
        assert redis_client.client_getname() in (b"web-1", "web-1")


@pytest.mark.parametrize("protocol", [2, 3])
def test_the_server_sees_the_protocol(valkey: Server, protocol: int) -> None:
    with client(valkey.url, protocol=str(protocol)) as redis_client:
        assert redis_client.client_info()["resp"] == str(protocol)


def test_replies_have_the_shapes_of_a_plain_redis_pys_where_no_protocol_is_set(
    valkey: Server,
) -> None:
    with client(valkey.url) as ours, redis.Redis(port=valkey.port) as plain:
        plain.xadd("stream", {"field": "value"})
        plain.zadd("scores", {"one": 1, "two": 2})
        for ask in (
            lambda asked: asked.xread({"stream": 0}),
            lambda asked: asked.zrange("scores", 0, -1, withscores=True),
            lambda asked: asked.client_trackinginfo(),
        ):
            assert ask(ours) == ask(plain)


def test_redis_py_is_told_of_a_protocol_only_where_one_is_set() -> None:
    assert "protocol" not in make_pool("redis://h").connection_kwargs
    assert make_pool("redis://h", protocol="3").connection_kwargs["protocol"] == 3


def test_the_server_sees_the_database(valkey: Server) -> None:
    with client(valkey.url.replace("/0", "/3")) as redis_client:
        assert redis_client.client_info()["db"] == 3


@pytest.mark.parametrize(("text", "reply"), [("true", "hello"), ("false", b"hello")])
def test_replies_are_decoded_as_the_settings_say(
    valkey: Server, text: str, reply: str | bytes
) -> None:
    with client(valkey.url, decode_responses=text) as redis_client:
        redis_client.set("greeting", "hello")
        assert redis_client.get("greeting") == reply


def test_decode_responses_false_in_the_url_is_false(valkey: Server) -> None:
    with client(f"{valkey.url}?decode_responses=False") as redis_client:
        redis_client.set("greeting", "hello")
        assert redis_client.get("greeting") == b"hello"


@pytest.mark.parametrize(("text", "expected"), [("true", True), ("false", False)])
def test_the_socket_is_kept_alive_as_the_settings_say(
    valkey: Server, text: str, expected: bool
) -> None:
    pool = make_pool(valkey.url, socket_keepalive=text)
    connection = pool.get_connection()
    option = connection._sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
    pool.disconnect()
    assert bool(option) is expected


def test_a_reply_that_takes_longer_than_socket_timeout_is_an_error(valkey: Server) -> None:
    with (
        client(valkey.url, socket_timeout="50 ms") as redis_client,
        pytest.raises(redis.TimeoutError),
    ):
        redis_client.execute_command("BLPOP", "nothing", 2)


def test_a_server_on_a_unix_socket_is_reached(
    tmp_path: pathlib.Path, socket_directory: pathlib.Path
) -> None:
    path = socket_directory / "r.sock"
    with (
        running_server("valkey", tmp_path, "--unixsocket", str(path)),
        client(f"unix://{path}?db=2") as redis_client,
    ):
        assert redis_client.client_info()["db"] == 2


def test_an_acl_user_is_logged_in(valkey: Server, acl_user: tuple[str, str]) -> None:
    name, password = acl_user
    with client(valkey.url, username=name, password=password) as redis_client:
        assert redis_client.acl_whoami() in (b"app", "app")


@pytest.fixture
def acl_user(valkey: Server) -> Iterator[tuple[str, str]]:
    with redis.Redis(port=valkey.port) as admin:
        admin.execute_command("ACL", "SETUSER", "app", "on", ">app-secret", "~*", "+@all")
        yield "app", "app-secret"
        admin.execute_command("ACL", "DELUSER", "app")


def test_no_maintenance_notifications_are_asked_for(tmp_path: pathlib.Path) -> None:
    with (
        running_server("valkey", tmp_path) as server,
        client(server.url) as redis_client,
    ):
        redis_client.ping()
        assert redis_client.info("stats")["total_error_replies"] == 0


def test_an_unread_reply_is_never_given_to_the_next_command(valkey: Server) -> None:
    pool = make_pool(valkey.url, max_connections="1")
    connection = pool.get_connection()
    connection.send_command("ECHO", "somebody else's reply")
    assert connection.can_read(5)
    pool.release(connection)
    with client_of(pool) as redis_client:
        assert redis_client.echo("mine") == b"mine"


# Keyword arguments


@pytest.mark.parametrize(
    ("key", "text", "keyword", "value"),
    [
        ("max_connections", "7", "max_connections", 8),
        ("pool_timeout", "7 seconds", "timeout", 8),
    ],
)
def test_a_keyword_argument_of_the_pool_wins_over_the_settings(
    key: str, text: str, keyword: str, value: Any
) -> None:
    pool = make_pool("redis://localhost", **{key: text, f"__{keyword}": value})
    assert getattr(pool, keyword) == value


@pytest.mark.parametrize(
    ("key", "text", "value"),
    [
        ("socket_timeout", "7 seconds", 8.0),
        ("socket_timeout", "7 seconds", None),
        ("socket_connect_timeout", "7 seconds", 8.0),
        ("socket_keepalive", "true", False),
        ("health_check_interval", "7 seconds", 8),
        ("client_name", "settings", "keyword"),
        ("protocol", "3", 2),
    ],
)
def test_a_keyword_argument_of_the_connection_wins_over_the_settings(
    key: str, text: str, value: Any
) -> None:
    pool = make_pool("redis://localhost", **{key: text, f"__{key}": value})
    assert getattr(pool.make_connection(), key) == value


def test_a_keyword_argument_wins_over_the_url(valkey: Server) -> None:
    pool = make_pool("redis://localhost:1/5", __port=valkey.port, __db=2)
    with client_of(pool) as redis_client:
        assert redis_client.client_info()["db"] == 2


def test_retry_as_a_keyword_argument_wins_over_retries(listener: Listener) -> None:
    listener.hang_up()
    pool = make_pool(listener.url, retries="5", __retry=Retry(NoBackoff(), 1))
    assert listener.attempts(redis.Redis(connection_pool=pool).ping) == 2


def test_a_password_as_a_keyword_argument_wins_over_the_settings(
    valkey: Server, acl_user: tuple[str, str]
) -> None:
    name, password = acl_user
    with client(valkey.url, username=name, password="wrong", __password=password) as redis_client:
        assert redis_client.acl_whoami() in (b"app", "app")


def test_a_password_as_a_keyword_argument_wins_over_the_password_file(
    valkey: Server, acl_user: tuple[str, str], tmp_path: pathlib.Path
) -> None:
    name, password = acl_user
    file = tmp_path / "password"
    file.write_text("wrong")
    pool = make_pool(valkey.url, username=name, password_file=str(file), __password=password)
    with client_of(pool) as redis_client:
        assert redis_client.acl_whoami() in (b"app", "app")


def test_a_user_name_as_a_keyword_argument_goes_with_the_password_file(
    valkey: Server, acl_user: tuple[str, str], tmp_path: pathlib.Path
) -> None:
    name, password = acl_user
    file = tmp_path / "password"
    file.write_text(password)
    pool = make_pool(valkey.url, username="wrong", password_file=str(file), __username=name)
    with client_of(pool) as redis_client:
        assert redis_client.acl_whoami() in (b"app", "app")


@pytest.mark.parametrize("settings", [{"password": "wrong"}, {"username": "x"}])
def test_a_credential_provider_as_a_keyword_argument_wins_over_the_settings(
    valkey: Server, acl_user: tuple[str, str], settings: dict[str, str]
) -> None:
    provider = redis.UsernamePasswordCredentialProvider(*acl_user)
    with client(valkey.url, **settings, __credential_provider=provider) as redis_client:
        assert redis_client.acl_whoami() in (b"app", "app")


@pytest.mark.parametrize(
    ("url", "keyword", "connection_class"),
    [
        ("redis://h", "nonsense", "Connection"),
        ("redis://h", "ssl_ca_certs", "Connection"),
        ("redis://h", "path", "Connection"),
        ("unix:///r.sock", "host", "UnixDomainSocketConnection"),
        ("rediss://h", "ssl_nonsense", "SSLConnection"),
    ],
)
def test_an_unknown_keyword_argument_is_an_error_when_the_pool_is_built(
    url: str, keyword: str, connection_class: str
) -> None:
    with pytest.raises(TypeError) as caught:
        make_pool(url, **{f"__{keyword}": 1})
    assert str(caught.value) == (
        f"unexpected keyword argument {keyword!r}: neither BlockingConnectionPool nor "
        f"{connection_class} has it"
    )


class TakesAnything:
    """A connection as redis-py's own tests make them: not derived from redis-py's classes."""

    def __init__(self, **kwargs: Any) -> None:
        self.kwargs = kwargs

    def connect(self) -> None: ...

    def disconnect(self) -> None: ...

    def can_read(self) -> bool:
        return False

    def should_reconnect(self) -> bool:
        return False


class PassesAnythingOn(redis.Connection):
    def __init__(self, *args: Any, label: str = "", **kwargs: Any) -> None:
        self.label = label
        super().__init__(*args, **kwargs)


class TakesNothingElse(redis.Connection):
    def __init__(self, host: str, port: int) -> None:
        super().__init__(host=host, port=port)


def test_a_connection_class_that_takes_any_keyword_argument_gets_it() -> None:
    pool = make_pool("redis://h", __connection_class=TakesAnything, __made_up=1)
    assert pool.make_connection().kwargs["made_up"] == 1


def test_a_connection_class_that_is_not_redis_pys_is_used_again() -> None:
    pool = make_pool("redis://h", __connection_class=TakesAnything)
    connection = pool.get_connection()
    pool.release(connection)
    assert pool.get_connection() is connection


def test_a_connection_class_may_pass_its_keyword_arguments_on(valkey: Server) -> None:
    with client(valkey.url, __connection_class=PassesAnythingOn, __label="mine") as redis_client:
        assert redis_client.ping()
        assert redis_client.connection_pool.make_connection().label == "mine"


def test_a_keyword_argument_that_a_connection_class_does_not_pass_on_is_refused() -> None:
    with pytest.raises(TypeError, match="nor TakesNothingElse has it"):
        BlockingConnectionPool(
            connection_class=TakesNothingElse, host="h", port=1, socket_timeout=3
        )


CACHING = {"cache_config": CacheConfig(), "cache": DefaultCache(CacheConfig())}
URLS = {"": "redis://h", "sentinel_": "redis+sentinel://h/primary", "cluster_": "redis+cluster://h"}


@pytest.mark.parametrize("keyword", CACHING)
@pytest.mark.parametrize(
    ("kind", "make"),
    [
        ("", pool_from_config),
        ("sentinel_", sentinel_pool_from_config),
        ("cluster_", cluster_pool_from_config),
    ],
)
def test_client_side_caching_is_refused_when_the_pool_is_built(
    kind: str, make: Callable[..., Any], keyword: str
) -> None:
    with pytest.raises(ConfigurationError) as caught:
        make({"foo.url": URLS[kind]}, "foo.", **{keyword: CACHING[keyword]})
    assert str(caught.value) == (
        f"foo.{keyword}: redis-py's client-side caching deadlocks when threads share a client. "
        "Remove this keyword argument."
    )


@pytest.mark.parametrize("url", URLS.values())
def test_client_side_caching_is_refused_when_the_application_is_built(
    make_config: Callable[..., Configurator], url: str
) -> None:
    config = make_config(foo__url=url)
    config.add_redis_client("foo", RedisClient(cache_config=CacheConfig()))
    with pytest.raises(ConfigurationExecutionError, match=r"foo\.cache_config: redis-py"):
        config.make_wsgi_app()


def test_client_side_caching_may_be_turned_off_explicitly() -> None:
    assert make_pool("redis://h", __cache=None, __cache_config=None).cache is None


# Slots


@pytest.mark.parametrize(
    ("url", "keywords"),
    [
        pytest.param("redis://h", {"protocol": 7}, id="protocol"),
        pytest.param("rediss://h", {"ssl_cert_reqs": "nonsense"}, id="ssl_cert_reqs"),
    ],
)
def test_a_connection_that_cannot_be_made_leaks_no_slot(url: str, keywords: dict[str, Any]) -> None:
    pool = make_pool(
        url, max_connections="2", pool_timeout="0 s", **{f"__{k}": v for k, v in keywords.items()}
    )
    messages = set()
    for _ in range(5):
        with pytest.raises(redis.RedisError) as caught:
            pool.get_connection()
        messages.add(str(caught.value))
    assert "No connection available." not in messages


def test_a_server_that_cannot_be_reached_leaks_no_slot() -> None:
    pool = make_pool(f"redis://127.0.0.1:{free_port()}", max_connections="1", pool_timeout="0 s")
    messages = set()
    for _ in range(3):
        with pytest.raises(redis.ConnectionError) as caught:
            pool.get_connection()
        messages.add(str(caught.value))
    assert "No connection available." not in messages


def test_an_exhausted_pool_is_an_error_after_pool_timeout(valkey: Server) -> None:
    pool = make_pool(valkey.url, max_connections="1", pool_timeout="50 ms")
    held = pool.get_connection()
    started = time.monotonic()
    with pytest.raises(redis.ConnectionError, match="No connection available"):
        pool.get_connection()
    assert time.monotonic() - started >= 0.045
    pool.release(held)


# Retries


def test_nothing_is_tried_again_by_default(listener: Listener) -> None:
    listener.hang_up()
    pool = make_pool(listener.url)
    assert listener.attempts(redis.Redis(connection_pool=pool).ping) == 1


def test_a_wrong_password_is_never_retried(guarded: Server) -> None:
    pool = make_pool(guarded.url, retries="10", password="wrong-secret")
    started = time.monotonic()
    with pytest.raises(redis.AuthenticationError):
        MonitoredRedisConnection("foo", None, pool).ping()
    assert time.monotonic() - started < 1  # ten retries with backoff take four


def test_retries_are_as_the_settings_say(listener: Listener) -> None:
    listener.hang_up()
    pool = make_pool(listener.url, retries="2")
    assert listener.attempts(MonitoredRedisConnection("foo", None, pool).ping) == 3


def test_set_retry_holds_for_connections_made_later(listener: Listener) -> None:
    listener.hang_up()
    pool = make_pool(listener.url)
    pool.set_retry(Retry(NoBackoff(), 3))
    assert listener.attempts(redis.Redis(connection_pool=pool).ping) == 4


def test_set_retry_holds_for_connections_made_before(listener: Listener) -> None:
    listener.hang_up()
    redis_client = redis.Redis(connection_pool=make_pool(listener.url, max_connections="1"))
    listener.attempts(redis_client.ping)
    redis_client.set_retry(Retry(NoBackoff(), 3))
    assert listener.attempts(redis_client.ping) == 4


# Password files


@pytest.fixture
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server whose password is ``first-secret``."""
    directory = tmp_path_factory.mktemp("guarded")
    with running_server("valkey", directory, "--requirepass", "first-secret") as server:
        yield server


@pytest.fixture
def password_file(tmp_path: pathlib.Path) -> pathlib.Path:
    path = tmp_path / "password"
    path.write_text("first-secret")
    return path


@pytest.mark.parametrize("ending", ["", "\n", "\r\n"])
def test_a_password_is_read_from_a_file(
    guarded: Server, password_file: pathlib.Path, ending: str
) -> None:
    password_file.write_bytes(f"first-secret{ending}".encode())
    with client(guarded.url, password_file=str(password_file)) as redis_client:
        assert redis_client.ping()


def test_a_password_file_goes_with_a_user_name(
    valkey: Server, acl_user: tuple[str, str], password_file: pathlib.Path
) -> None:
    name, password = acl_user
    password_file.write_text(password)
    with client(valkey.url, username=name, password_file=str(password_file)) as redis_client:
        assert redis_client.acl_whoami() in (b"app", "app")


def test_a_rotated_password_is_picked_up_by_the_next_connection(
    guarded: Server, password_file: pathlib.Path
) -> None:
    with client(guarded.url, password_file=str(password_file)) as redis_client:
        redis_client.config_set("requirepass", "second-secret")
        password_file.write_text("second-secret")
        redis_client.connection_pool.disconnect()
        assert redis_client.ping()


def test_a_password_that_was_rotated_on_the_server_alone_is_an_error(
    guarded: Server, password_file: pathlib.Path
) -> None:
    with client(guarded.url, password_file=str(password_file)) as redis_client:
        redis_client.config_set("requirepass", "second-secret")
        redis_client.connection_pool.disconnect()
        with pytest.raises(redis.AuthenticationError):
            redis_client.ping()


def test_a_missing_password_file_is_an_error_when_the_pool_is_built(
    tmp_path: pathlib.Path,
) -> None:
    path = tmp_path / "missing"
    with pytest.raises(ConfigurationError) as caught:
        make_pool("redis://localhost", password_file=str(path))
    assert str(caught.value) == "foo.password_file: cannot read the file: No such file or directory"


def test_a_directory_in_place_of_a_password_file_is_an_error_when_the_pool_is_built(
    tmp_path: pathlib.Path,
) -> None:
    with pytest.raises(ConfigurationError) as caught:
        make_pool("redis://localhost", password_file=str(tmp_path))
    assert str(caught.value) == "foo.password_file: cannot read the file: Is a directory"


def test_a_file_name_that_no_system_takes_is_an_error_when_the_pool_is_built() -> None:
    with pytest.raises(ConfigurationError, match=r"^foo\.password_file: "):
        make_pool("redis://localhost", password_file="a\x00b")


def test_a_password_file_that_went_missing_is_an_authentication_error(
    guarded: Server, password_file: pathlib.Path
) -> None:
    with client(guarded.url, password_file=str(password_file)) as redis_client:
        password_file.unlink()
        with pytest.raises(redis.AuthenticationError) as caught:
            redis_client.ping()
    assert str(caught.value) == (
        "foo.password_file: cannot read the file: No such file or directory"
    )


@pytest.mark.parametrize("content", ["", "\n"])
def test_an_empty_password_file_is_an_authentication_error(
    guarded: Server, password_file: pathlib.Path, content: str
) -> None:
    password_file.write_text(content)
    with (
        client(guarded.url, password_file=str(password_file)) as redis_client,
        pytest.raises(redis.AuthenticationError) as caught,
    ):
        redis_client.ping()
    assert str(caught.value) == "foo.password_file: the file is empty"


def test_a_password_file_that_is_not_utf_8_is_an_authentication_error(
    guarded: Server, password_file: pathlib.Path
) -> None:
    password_file.write_bytes(b"first-secret\xff")
    with (
        client(guarded.url, password_file=str(password_file)) as redis_client,
        pytest.raises(redis.AuthenticationError) as caught,
    ):
        redis_client.ping()
    assert str(caught.value) == ("foo.password_file: cannot read the file: UnicodeDecodeError")


def test_a_connection_whose_password_cannot_be_read_is_closed_and_leaks_no_slot(
    guarded: Server, password_file: pathlib.Path
) -> None:
    settings = {"password_file": str(password_file), "max_connections": "1", "pool_timeout": "0 s"}
    with client(guarded.url, **settings) as redis_client:
        password_file.unlink()
        for _ in range(3):
            with pytest.raises(redis.AuthenticationError):
                redis_client.ping()
        password_file.write_text("first-secret")
        wait_until(lambda: redis_client.info("clients")["connected_clients"] == 1)


# TLS


class Certificates:
    """Certificates of one authority, as files."""

    def __init__(self, directory: pathlib.Path, name: str = "localhost") -> None:
        self.authority = trustme.CA()
        certificate = self.authority.issue_cert(name)
        self.ca = str(directory / "ca.pem")
        self.certificate = str(directory / "certificate.pem")
        self.key = str(directory / "key.pem")
        self.encrypted_key = str(directory / "encrypted.pem")
        self.authority.cert_pem.write_to_path(self.ca)
        certificate.cert_chain_pems[0].write_to_path(self.certificate)
        certificate.private_key_pem.write_to_path(self.key)
        key = serialization.load_pem_private_key(certificate.private_key_pem.bytes(), None)
        encrypted = key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"key-secret"),
        )
        pathlib.Path(self.encrypted_key).write_bytes(encrypted)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module")
def strange_certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """Those of an authority that nobody knows."""
    return Certificates(tmp_path_factory.mktemp("strange"))


def tls_refusal(**settings: str) -> str:
    with pytest.raises(ConfigurationError) as caught:
        make_pool("rediss://localhost", **settings)
    return str(caught.value)


@pytest.mark.parametrize("key", ["ssl_ca_certs", "ssl_certfile"])
def test_a_missing_tls_file_is_an_error_when_the_pool_is_built(
    key: str, tmp_path: pathlib.Path
) -> None:
    path = tmp_path / "missing.pem"
    assert tls_refusal(**{key: str(path)}) == (
        f"foo.{key}: cannot read {path}: No such file or directory"
    )


def test_a_missing_key_file_is_an_error_when_the_pool_is_built(
    certificates: Certificates, tmp_path: pathlib.Path
) -> None:
    path = tmp_path / "missing.pem"
    message = tls_refusal(ssl_certfile=certificates.certificate, ssl_keyfile=str(path))
    assert message == f"foo.ssl_keyfile: cannot read {path}: No such file or directory"


def test_a_missing_directory_of_authorities_is_an_error_when_the_pool_is_built(
    tmp_path: pathlib.Path,
) -> None:
    path = tmp_path / "missing"
    assert tls_refusal(ssl_ca_path=str(path)) == f"foo.ssl_ca_path: {path} is not a directory"


def test_a_file_without_a_certificate_is_an_error_when_the_pool_is_built(
    tmp_path: pathlib.Path,
) -> None:
    path = tmp_path / "nonsense.pem"
    path.write_text("nonsense")
    message = tls_refusal(ssl_ca_certs=str(path))
    assert message.startswith("foo.ssl_ca_certs: cannot be used for TLS (")


def test_data_without_a_certificate_is_an_error_when_the_pool_is_built() -> None:
    message = tls_refusal(ssl_ca_data="nonsense")
    assert message.startswith("foo.ssl_ca_data: cannot be used for TLS (")


def test_a_key_of_another_certificate_is_an_error_when_the_pool_is_built(
    certificates: Certificates, strange_certificates: Certificates
) -> None:
    message = tls_refusal(
        ssl_certfile=certificates.certificate, ssl_keyfile=strange_certificates.key
    )
    assert message == ("foo.ssl_keyfile: does not belong to the certificate in foo.ssl_certfile")


def test_a_file_with_a_certificate_and_a_key_of_another_is_an_error_when_the_pool_is_built(
    certificates: Certificates, strange_certificates: Certificates, tmp_path: pathlib.Path
) -> None:
    parts = [certificates.certificate, strange_certificates.key]
    path = tmp_path / "both.pem"
    path.write_text("".join(pathlib.Path(part).read_text() for part in parts))
    assert tls_refusal(ssl_certfile=str(path)).startswith("foo.ssl_certfile: ")


def test_a_certificate_without_its_key_is_an_error_when_the_pool_is_built(
    certificates: Certificates,
) -> None:
    message = tls_refusal(ssl_certfile=certificates.certificate)
    assert message.startswith("foo.ssl_certfile: ")


@pytest.mark.parametrize("password", [{}, {"ssl_password": "wrong-secret"}])
def test_a_key_that_its_password_does_not_open_is_an_error_when_the_pool_is_built(
    certificates: Certificates, password: dict[str, str]
) -> None:
    message = tls_refusal(
        ssl_certfile=certificates.certificate,
        ssl_keyfile=certificates.encrypted_key,
        **password,
    )
    assert message.startswith("foo.ssl_password: ")


def test_unknown_ciphers_are_an_error_when_the_pool_is_built() -> None:
    message = tls_refusal(ssl_ciphers="NONSENSE")
    assert message.startswith("foo.ssl_ciphers: ")


@pytest.fixture(scope="module")
def tls_server(
    certificates: Certificates, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[int]:
    """The TLS port of a server that wants to see a certificate of the client."""
    port = free_port()
    with running_server(
        "redis", tmp_path_factory.mktemp("tls"), "--tls-port", str(port),
        "--tls-cert-file", certificates.certificate, "--tls-key-file", certificates.key,
        "--tls-ca-cert-file", certificates.ca, "--tls-auth-clients", "yes",
    ):  # fmt: skip
        yield port


@pytest.fixture
def tls_settings(certificates: Certificates) -> dict[str, str]:
    return {
        "ssl_ca_certs": certificates.ca,
        "ssl_certfile": certificates.certificate,
        "ssl_keyfile": certificates.key,
    }


@needs_debian_redis
def test_a_tls_server_is_reached_with_an_encrypted_key(
    tls_server: int, tls_settings: dict[str, str], certificates: Certificates
) -> None:
    settings = {
        **tls_settings,
        "ssl_keyfile": certificates.encrypted_key,
        "ssl_password": "key-secret",
    }
    with client(f"rediss://localhost:{tls_server}", **settings) as redis_client:
        assert redis_client.ping()


# Waiting for a connection


def blocked_clients(server: Server) -> int:
    with redis.Redis(port=server.port) as admin:
        return int(admin.info("clients")["blocked_clients"])


@pytest.fixture
def waited(valkey: Server, spans: RecordedSpans) -> RecordedSpans:
    """The spans of a BLPOP and of a GET that had to wait for the pool's only connection."""
    pool = make_pool(valkey.url, max_connections="1")
    monitored = MonitoredRedisConnection("foo", None, pool)
    first = threading.Thread(
        target=monitored.execute_command, args=("BLPOP", "nothing", 0.3), daemon=True
    )
    second = threading.Thread(target=monitored.get, args=("key",), daemon=True)
    first.start()
    wait_until(lambda: blocked_clients(valkey) == 1)
    second.start()
    first.join(10)
    second.join(10)
    pool.disconnect()
    return spans


def test_the_span_of_a_command_that_waited_for_a_connection_tells_how_long(
    waited: RecordedSpans,
) -> None:
    assert 0 < attributes(waited.one("foo.GET"))[WAIT_TIME] < 5


def test_the_span_of_a_command_that_did_not_wait_has_no_wait_time(
    waited: RecordedSpans,
) -> None:
    assert WAIT_TIME not in attributes(waited.one("foo.BLPOP"))


def test_a_wait_is_told_of_by_one_span_only(valkey: Server, waited: RecordedSpans) -> None:
    waited.clear()
    with client_of(make_pool(valkey.url)) as redis_client:
        MonitoredRedisConnection("foo", None, redis_client.connection_pool).get("key")
    assert WAIT_TIME not in attributes(waited.one("foo.GET"))


def test_the_span_of_a_command_that_waited_in_vain_tells_how_long(
    valkey: Server, spans: RecordedSpans
) -> None:
    pool = make_pool(valkey.url, max_connections="1", pool_timeout="50 ms")
    held = pool.get_connection()
    with pytest.raises(redis.ConnectionError):
        MonitoredRedisConnection("foo", None, pool).get("key")
    pool.release(held)
    assert attributes(spans.one("foo.GET"))[WAIT_TIME] >= 0.045


def test_the_span_of_a_pipeline_that_waited_tells_how_long(
    valkey: Server, spans: RecordedSpans
) -> None:
    pool = make_pool(valkey.url, max_connections="1")
    held = pool.get_connection()
    threading.Timer(0.1, pool.release, (held,)).start()
    MonitoredRedisConnection("foo", None, pool).pipeline("both").get("a").get("b").execute()
    pool.disconnect()
    assert attributes(spans.one("foo.pipeline_both"))[WAIT_TIME] > 0
