"""Behind Sentinel: from settings to a pool, who is asked, whom a span names, and who is left.

What happens under load is in failover/test_sentinel_failover.py.
"""

from __future__ import annotations

import _thread
import gc
import socket
import sys
import threading
import time
import traceback
import weakref
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import redis
import trustme
import webtest
from pyramid.config import Configurator
from pyramid.exceptions import ConfigurationExecutionError
from redis.sentinel import MasterNotFoundError

from pyramid_baseplate_redis import (
    BlockingConnectionPool,
    ConfigurationError,
    MonitoredRedisConnection,
    SentinelBlockingConnectionPool,
    SentinelRedisClient,
    is_retryable,
    pool_from_config,
    sentinel_pool_from_config,
)
from pyramid_baseplate_redis.pool.sentinel import discovery
from pyramid_baseplate_redis.pool.sentinel import events as announcements_module
from pyramid_baseplate_redis.pool.sentinel import pool as sentinel_module
from pyramid_baseplate_redis.pool.sentinel.discovery import SentinelManager

from ..faults.helpers import in_child, in_threads, tls_server, unique
from ..support.servers import RecordedSpans, Server, attributes, needs_debian_redis, wait_until
from ..support.topologies import Node, SentinelSet, running_sentinels

SECRETS = ("of-the-servers", "of-the-sentinels")
WRITE_SCRIPT = "return redis.call('SET', 'key', 'value')"
NOWHERE = "redis+sentinel://127.0.0.1:1,127.0.0.1:2/mymaster"

MakeFoo = Callable[..., MonitoredRedisConnection]


@pytest.fixture
def make_foo() -> Iterator[MakeFoo]:
    """Make the client ``foo`` of a Sentinel set or a URL, with the settings given."""
    pools: list[Any] = []

    def make(where: SentinelSet | str, /, **settings: str) -> MonitoredRedisConnection:
        url = where if isinstance(where, str) else where.url
        settings = {"client_name": f"foo-{unique()}", "socket_timeout": "2 seconds", **settings}
        keys = {f"foo.{key}": value for key, value in settings.items()}
        pools.append(sentinel_pool_from_config({"foo.url": url, **keys}, "foo."))
        return MonitoredRedisConnection("foo", None, pools[-1])

    yield make
    for pool in pools:
        pool.disconnect()


@pytest.fixture
def valkeys(valkey_sentinels: SentinelSet) -> SentinelSet:
    """An empty set of Valkeys: for tests in which the kind of server makes no difference."""
    valkey_sentinels.tidy()
    return valkey_sentinels


@pytest.fixture
def foo(make_foo: MakeFoo, valkeys: SentinelSet) -> MonitoredRedisConnection:
    return make_foo(valkeys)


def pool_of(client: redis.Redis) -> Any:
    return client.connection_pool


def ports(spans: RecordedSpans) -> list[tuple[str, Any]]:
    """The names of all spans, and which port each says that it went to."""
    return [(span.name, attributes(span).get("server.port")) for span in spans.all]


def error_of(call: Callable[[], Any]) -> redis.RedisError:
    with pytest.raises(redis.RedisError) as caught:
        call()
    return caught.value


def told(error: BaseException) -> str:
    """All that a log would show of it."""
    return "".join(traceback.format_exception(error))


# From settings to a pool


def test_the_pool_is_ours_and_redis_pys() -> None:
    pool = sentinel_pool_from_config({"foo.url": NOWHERE}, "foo.")
    assert isinstance(pool, SentinelBlockingConnectionPool)
    assert isinstance(pool, BlockingConnectionPool)
    assert isinstance(pool, redis.BlockingConnectionPool)


def test_pool_from_config_makes_the_same() -> None:
    pool = pool_from_config({"foo.url": NOWHERE}, "foo.")
    assert isinstance(pool, SentinelBlockingConnectionPool)


def test_a_url_that_leads_to_no_sentinel_is_refused() -> None:
    with pytest.raises(ConfigurationError) as caught:
        sentinel_pool_from_config({"foo.url": "redis://:hidden@localhost/0"}, "foo.")
    assert str(caught.value) == (
        "foo.url: is not a Sentinel URL. Write it like "
        "redis+sentinel://host1:26379,host2:26379/mymaster/0"
    )


def test_the_urls_user_password_and_database_are_for_the_servers() -> None:
    url = "redis+sentinel://user:pass@one:1,two/mymaster/3"
    pool = sentinel_pool_from_config({"foo.url": url}, "foo.")
    keywords = pool.connection_kwargs
    assert (keywords["username"], keywords["password"], keywords["db"]) == ("user", "pass", 3)
    for client in pool.sentinel_manager.sentinels:
        its = client.connection_pool.connection_kwargs
        assert (its["username"], its["password"], its.get("db", 0)) == (None, None, 0)


def test_the_sentinels_are_those_of_the_url() -> None:
    pool = sentinel_pool_from_config({"foo.url": "redis+sentinel://one:1,two/mymaster"}, "foo.")
    assert pool.sentinel_manager.addresses == "one:1, two:26379"
    assert pool.service_name == "mymaster"


def test_the_sentinels_have_a_user_and_a_password_of_their_own() -> None:
    settings = {"foo.sentinel_username": "watch", "foo.sentinel_password": "word"}
    pool = sentinel_pool_from_config({"foo.url": NOWHERE, **settings}, "foo.")
    assert (pool.connection_kwargs["username"], pool.connection_kwargs["password"]) == (None, None)
    for client in pool.sentinel_manager.sentinels:
        its = client.connection_pool.connection_kwargs
        assert (its["username"], its["password"]) == ("watch", "word")


@pytest.mark.parametrize("role", ["servers", "Sentinels"])
def test_rediss_is_tls_to_the_servers_and_to_the_sentinels(role: str, tmp_path: Path) -> None:
    authority = tmp_path / "ca.pem"
    trustme.CA().cert_pem.write_to_path(str(authority))
    settings = {"foo.url": "rediss+sentinel://h/mymaster", "foo.ssl_ca_certs": str(authority)}
    pool = sentinel_pool_from_config(settings, "foo.")
    (sentinel,) = pool.sentinel_manager.sentinels
    made: Any = (pool if role == "servers" else pool_of(sentinel)).make_connection()
    assert isinstance(made, redis.SSLConnection)
    assert made.ca_certs == str(authority)


def test_keyword_arguments_reach_the_sentinels_too() -> None:
    settings = {"foo.url": "rediss+sentinel://h/mymaster"}
    pool = sentinel_pool_from_config(
        settings, "foo.", ssl_ca_certs="/ca.pem", socket_timeout=0.5, socket_connect_timeout=0.25
    )
    (sentinel,) = pool.sentinel_manager.sentinels
    its = sentinel.connection_pool.connection_kwargs
    assert its["ssl_ca_certs"] == "/ca.pem"
    assert (its["socket_timeout"], its["socket_connect_timeout"]) == (0.5, 0.25)


def test_no_password_is_shown(tmp_path: Path) -> None:
    pool = sentinel_pool_from_config(
        {
            "foo.url": NOWHERE.replace("//", f"//user:{SECRETS[0]}@"),
            "foo.sentinel_password": SECRETS[1],
        },
        "foo.",
    )
    sentinels = pool.sentinel_manager.sentinels
    shown = [pool, pool.sentinel_manager, *sentinels, pool.make_connection()]
    shown += [client.connection_pool for client in sentinels]
    shown += [client.connection_pool.make_connection() for client in sentinels]
    text = " ".join(map(repr, shown))
    assert not [secret for secret in SECRETS if secret in text]


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SentinelSet]:
    """A Sentinel set in which nobody gets in without the passwords."""
    directory = tmp_path_factory.mktemp("guarded")
    with running_sentinels(
        "valkey", directory, username="app", password=SECRETS[0], sentinel_username="watch",
        sentinel_password=SECRETS[1],
    ) as sentinels:  # fmt: skip
        yield sentinels


@pytest.mark.parametrize("protocol", ["2", "3"])
def test_passwords_let_it_in(guarded: SentinelSet, make_foo: MakeFoo, protocol: str) -> None:
    foo = make_foo(
        guarded, sentinel_username="watch", sentinel_password=SECRETS[1], protocol=protocol
    )
    assert foo.ping()


def test_passwords_are_read_from_files(
    guarded: SentinelSet, make_foo: MakeFoo, tmp_path: Path
) -> None:
    for name, secret in zip(("servers", "sentinels"), SECRETS, strict=True):
        (tmp_path / name).write_text(f"{secret}\n")
    foo = make_foo(
        f"redis+sentinel://app@{guarded.addresses}/mymaster",
        password_file=str(tmp_path / "servers"),
        sentinel_username="watch",
        sentinel_password_file=str(tmp_path / "sentinels"),
    )
    assert foo.ping()


@pytest.mark.parametrize("password", ["hidden", None])
def test_sentinels_that_refuse_the_password_are_an_authentication_error(
    guarded: SentinelSet, make_foo: MakeFoo, password: str | None
) -> None:
    own = {"sentinel_password": password} if password else {}
    error = error_of(make_foo(guarded, **own).ping)
    assert isinstance(error, redis.AuthenticationError)
    assert is_retryable(error) is False
    assert f"asked Sentinels {guarded.sentinels[0].host}:" in str(error)
    assert not [secret for secret in (*SECRETS, "hidden") if secret in told(error)]


@pytest.mark.parametrize("read_from", ["primary", "replica"])
def test_a_server_that_refuses_the_password_is_named_in_the_error(
    guarded: SentinelSet, make_foo: MakeFoo, read_from: str
) -> None:
    url = guarded.url.replace(SECRETS[0], "hidden")
    own = {"sentinel_username": "watch", "sentinel_password": SECRETS[1], "read_from": read_from}
    error = error_of(make_foo(url, **own).ping)
    assert isinstance(error, redis.AuthenticationError)
    assert str(error).startswith("foo: ")
    assert str(error).endswith(f"({guarded.primary().address})")
    assert not [secret for secret in (*SECRETS, "hidden") if secret in told(error)]


# Who is asked, and what is said when nobody knows


def test_an_unknown_service_is_an_error_that_says_who_was_asked(
    valkeys: SentinelSet, make_foo: MakeFoo
) -> None:
    error = error_of(make_foo(valkeys.url.replace("mymaster", "other")).ping)
    addresses = ", ".join(sorted(valkeys.addresses.split(",")))
    assert str(error) == (
        f"foo: No master found for 'other' (asked Sentinels {addresses} for other)"
    )
    assert isinstance(error, redis.ConnectionError)
    assert is_retryable(error) is True


def test_sentinels_that_cannot_be_reached_are_an_error_that_says_why(make_foo: MakeFoo) -> None:
    url = NOWHERE.replace("//", f"//user:{SECRETS[0]}@")
    error = error_of(make_foo(url, sentinel_password=SECRETS[1]).ping)
    refused = "ConnectionError: Error 111 connecting to 127.0.0.1:{0}. Connection refused."
    assert str(error) == (
        f"foo: No master found for 'mymaster' : 127.0.0.1:1 - {refused.format(1)}, 127.0.0.1:2 - "
        f"{refused.format(2)} (asked Sentinels 127.0.0.1:1, 127.0.0.1:2 for mymaster)"
    )
    assert is_retryable(error) is True
    assert not [secret for secret in SECRETS if secret in told(error)]


def test_a_server_that_is_no_sentinel_is_skipped(valkeys: SentinelSet, make_foo: MakeFoo) -> None:
    addresses = f"{valkeys.replica().address},{valkeys.sentinels[0].address}"
    assert make_foo(f"redis+sentinel://{addresses}/mymaster").ping()


def test_a_sentinel_that_is_down_is_skipped(valkeys: SentinelSet, make_foo: MakeFoo) -> None:
    addresses = f"127.0.0.1:1,{valkeys.sentinels[0].address}"
    assert make_foo(f"redis+sentinel://{addresses}/mymaster").ping()


@pytest.fixture
def silent() -> Iterator[Callable[[], int]]:
    """Ports where connections are accepted and nothing is answered, as by a frozen process."""
    with ExitStack() as stack:

        def start() -> int:
            listening = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
            port: int = listening.getsockname()[1]
            return port

        yield start


def test_frozen_sentinels_take_no_longer_than_one_server(
    silent: Callable[[], int], make_foo: MakeFoo
) -> None:
    hosts = ",".join(f"127.0.0.1:{silent()}" for _ in range(3))
    foo = make_foo(
        f"redis+sentinel://{hosts}/mymaster",
        socket_connect_timeout="300 milliseconds",
        socket_timeout="600 milliseconds",
    )
    started = time.monotonic()
    error = error_of(foo.ping)
    assert time.monotonic() - started < 1.2
    assert str(error).count("TimeoutError") == 3


def test_many_callers_do_not_queue_up_for_a_frozen_sentinel(
    valkeys: SentinelSet, silent: Callable[[], int], make_foo: MakeFoo
) -> None:
    hosts = f"127.0.0.1:{silent()},{valkeys.sentinels[0].address}"
    foo = make_foo(
        f"redis+sentinel://{hosts}/mymaster",
        socket_connect_timeout="400 milliseconds",
        socket_timeout="1 second",
    )
    ends: list[float] = []
    started = time.monotonic()

    def call() -> None:
        foo.ping()
        ends.append(time.monotonic() - started)

    threads = [threading.Thread(target=call) for _ in range(40)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(ends) == 40
    assert max(ends) < 2.5


def test_whom_it_found_alive_is_asked_first_the_next_time(
    valkeys: SentinelSet, make_foo: MakeFoo
) -> None:
    foo = make_foo(f"redis+sentinel://127.0.0.1:1,{valkeys.addresses}/mymaster")
    foo.ping()
    first = pool_of(foo).sentinel_manager.sentinels[0]
    assert first.connection_pool.connection_kwargs["port"] != 1
    assert len(pool_of(foo).sentinel_manager.sentinels) == 4


@pytest.mark.parametrize(("others", "is_enough"), [("2", True), ("3", False)])
def test_a_sentinel_that_sees_too_few_others_is_not_believed(
    valkeys: SentinelSet, make_foo: MakeFoo, others: str, is_enough: bool
) -> None:
    foo = make_foo(valkeys, min_other_sentinels=others)
    if is_enough:
        assert foo.ping()
    else:
        assert isinstance(error_of(foo.ping), MasterNotFoundError)


# Reading from replicas


def test_a_replica_answers_where_it_is_read_from(
    valkeys: SentinelSet, make_foo: MakeFoo, spans: RecordedSpans
) -> None:
    make_foo(valkeys, read_from="replica").get("key")
    assert ports(spans) == [("foo.GET", valkeys.replica().port)]


def test_a_replica_takes_no_writes(valkeys: SentinelSet, make_foo: MakeFoo) -> None:
    foo = make_foo(valkeys, read_from="replica")
    with pytest.raises(redis.ReadOnlyError):
        foo.set("key", "value")


def test_the_primary_answers_where_there_is_no_replica(
    valkeys: SentinelSet, make_foo: MakeFoo, spans: RecordedSpans
) -> None:
    primary, replica = valkeys.primary(), valkeys.replica()
    replica.kill()

    def is_known() -> bool:
        clients = [sentinel.client for sentinel in valkeys.sentinels]
        return all("s_down" in c.sentinel_slaves("mymaster")[0]["flags"] for c in clients)

    valkeys.wait_until(is_known, "known to be down")
    make_foo(valkeys, read_from="replica").get("key")
    assert ports(spans) == [("foo.GET", primary.port)]


def test_a_replica_that_was_promoted_is_left(valkeys: SentinelSet, make_foo: MakeFoo) -> None:
    pool = pool_of(make_foo(valkeys, read_from="replica"))
    idle, in_use = pool.get_connection(), pool.get_connection()
    pool.release(idle)
    pool.switched((valkeys.replica().host, valkeys.replica().port))
    assert pool.stats.idle == 0
    with pytest.raises(redis.ConnectionError):
        ask(in_use)
    pool.release(in_use)


# Whom a span names


def use_a_command(foo: MonitoredRedisConnection) -> None:
    foo.get("key")


def use_a_pipeline(foo: MonitoredRedisConnection) -> None:
    with foo.pipeline("all", transaction=False) as pipeline:
        pipeline.get("key").get("key").execute()


def use_a_transaction(foo: MonitoredRedisConnection) -> None:
    with foo.pipeline("all") as pipeline:
        pipeline.set("key", "value").get("key").execute()


def use_watch(foo: MonitoredRedisConnection) -> None:
    with foo.pipeline("all") as pipeline:
        pipeline.watch("key")
        pipeline.get("key")
        pipeline.multi()
        pipeline.set("key", "value").execute()


def use_a_connection_of_its_own(foo: MonitoredRedisConnection) -> None:
    with foo.client() as own:
        own.get("key")
        own.get("key")


def use_a_subscriber(foo: MonitoredRedisConnection) -> None:
    with foo.pubsub() as subscriber:
        subscriber.subscribe("one")
        subscriber.subscribe("two")


def use_a_queue(foo: MonitoredRedisConnection) -> None:
    queue = foo.message_queue("jobs")
    queue.put("a job")
    queue.get(1)


def use_a_lock(foo: MonitoredRedisConnection) -> None:
    with foo.lock("lock", timeout=1):
        pass


def fail_at_a_command(foo: MonitoredRedisConnection) -> None:
    foo.set("text", "value")
    with pytest.raises(redis.ResponseError):
        foo.lpush("text", "value")


@pytest.mark.parametrize(
    "use",
    [
        use_a_command, use_a_pipeline, use_a_transaction, use_watch, use_a_connection_of_its_own,
        use_a_subscriber, use_a_queue, use_a_lock, fail_at_a_command,
    ],
)  # fmt: skip
def test_spans_name_the_server_that_answered(
    foo: MonitoredRedisConnection,
    valkeys: SentinelSet,
    spans: RecordedSpans,
    use: Callable[[MonitoredRedisConnection], None],
) -> None:
    use(foo)
    wherefrom = {
        (attributes(span).get("server.address"), attributes(span).get("server.port"))
        for span in spans.all
    }
    assert wherefrom == {("127.0.0.1", valkeys.primary().port)}


def test_a_span_names_the_server_that_refused_the_connection(
    foo: MonitoredRedisConnection, valkeys: SentinelSet, spans: RecordedSpans
) -> None:
    foo.ping()
    spans.clear()
    old = valkeys.kill_primary()
    error_of(foo.ping)
    assert ports(spans) == [("foo.PING", old.port)]


def test_a_span_names_no_server_where_none_was_found(
    make_foo: MakeFoo, spans: RecordedSpans
) -> None:
    error_of(make_foo(NOWHERE).ping)
    assert ports(spans) == [("foo.PING", None)]


def test_a_span_names_the_replica_that_answered_not_one_that_was_tried_before(
    valkeys: SentinelSet, make_foo: MakeFoo, spans: RecordedSpans, monkeypatch: pytest.MonkeyPatch
) -> None:
    foo = make_foo(valkeys, read_from="replica")
    found = [("127.0.0.1", 1), ("127.0.0.1", valkeys.replica().port)]
    manager = pool_of(foo).sentinel_manager
    monkeypatch.setattr(manager, "discover_slaves", lambda service: found)
    for _ in range(2):  # they are taken in turn
        foo.get("key")
        pool_of(foo).disconnect()
    assert ports(spans) == [("foo.GET", valkeys.replica().port)] * 2


# Who is left


def ask(connection: Any) -> Any:
    connection.send_command("PING")
    return connection.read_response()


def another_address(sentinels: SentinelSet) -> tuple[str, int]:
    return sentinels.replica().host, sentinels.replica().port


def test_an_announced_switch_closes_idle_connections(
    foo: MonitoredRedisConnection, valkeys: SentinelSet
) -> None:
    foo.ping()
    pool_of(foo).switched(another_address(valkeys))
    assert pool_of(foo).stats.open == 0


def test_an_announced_switch_ends_a_command_that_waits_for_its_reply(
    foo: MonitoredRedisConnection, valkeys: SentinelSet
) -> None:
    errors: list[redis.RedisError] = []
    waiting = threading.Thread(target=lambda: errors.append(error_of(lambda: foo.blpop("k", 9))))
    waiting.start()
    admin = valkeys.primary().client
    wait_until(lambda: admin.info("clients")["blocked_clients"])
    pool_of(foo).switched(another_address(valkeys))
    waiting.join(2)
    assert isinstance(errors[0], redis.ConnectionError)


def test_an_announced_switch_ends_a_subscription(
    foo: MonitoredRedisConnection, valkeys: SentinelSet
) -> None:
    with foo.pubsub() as subscriber:
        subscriber.subscribe("news")
        subscriber.get_message(timeout=1)
        pool_of(foo).switched(another_address(valkeys))
        with pytest.raises(redis.ConnectionError):
            subscriber.get_message(timeout=1)


def test_an_announced_switch_ends_a_watch(
    foo: MonitoredRedisConnection, valkeys: SentinelSet
) -> None:
    with foo.pipeline() as pipeline:
        pipeline.watch("key")
        pool_of(foo).switched(another_address(valkeys))
        pipeline.multi()
        pipeline.set("key", "value")
        with pytest.raises(redis.WatchError):
            pipeline.execute()


def test_an_announced_switch_closes_what_is_released_later(
    foo: MonitoredRedisConnection, valkeys: SentinelSet
) -> None:
    connection = pool_of(foo).get_connection()
    pool_of(foo).switched(another_address(valkeys))
    pool_of(foo).release(connection)
    assert pool_of(foo).stats.open == 0


def test_connections_to_the_new_primary_stay(
    foo: MonitoredRedisConnection, valkeys: SentinelSet
) -> None:
    identity = foo.client_id()
    pool_of(foo).switched((valkeys.primary().host, valkeys.primary().port))
    assert foo.client_id() == identity


@pytest.mark.parametrize("news", ["demoted", "switched"])
def test_a_connection_that_is_released_meanwhile_keeps_no_other_from_being_left(
    foo: MonitoredRedisConnection,
    valkeys: SentinelSet,
    monkeypatch: pytest.MonkeyPatch,
    news: str,
) -> None:
    pool = pool_of(foo)
    released, held = pool.get_connection(), pool.get_connection()

    def seen_before() -> list[Any]:
        pool.release(released)
        return [released, held]

    # It is to be kept: the primary is the one that it was when that was decided.
    monkeypatch.setattr(pool, "_may_be_used_again", lambda *args: True)
    monkeypatch.setattr(pool, "_get_in_use_connections", seen_before)
    if news == "demoted":
        pool.demoted((valkeys.primary().host, valkeys.primary().port))
    else:
        pool.switched(another_address(valkeys))
    with pytest.raises(redis.ConnectionError):
        ask(held)
    pool.release(held)


def test_a_connection_that_is_being_made_meanwhile_goes_to_the_new_primary(
    foo: MonitoredRedisConnection, valkeys: SentinelSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool, manager = pool_of(foo), pool_of(foo).sentinel_manager
    new = valkeys.replica()
    connect = redis.Connection._connect
    epoch = 1000  # newer than that of any switch which other tests have caused
    # Real Sentinels, asked meanwhile, would tell of a switch that isn't one.
    monkeypatch.setattr(sentinel_module, "start_listening", lambda *args: True)

    def connect_late(connection: Any) -> Any:
        is_ours = isinstance(connection, sentinel_module.SentinelConnection)
        if is_ours and manager.learn(epoch, (new.host, new.port)):
            pool.switched((new.host, new.port))  # with no socket yet to hang up
            told_of(manager, port=new.port, epoch=epoch)
        return connect(connection)

    monkeypatch.setattr(redis.Connection, "_connect", connect_late)
    assert pool.get_connection().port == new.port


def test_a_connection_is_given_up_when_the_primary_changes_all_the_time(
    foo: MonitoredRedisConnection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sentinel_module._Proxy, "is_right", lambda proxy, address: False)
    error = error_of(foo.ping)
    assert str(error).startswith("foo: The primary changed while connecting (asked Sentinels ")
    assert is_retryable(error) is True


@needs_debian_redis
def test_hanging_up_never_sends_anything_unencrypted(tmp_path: Path) -> None:
    with tls_server(tmp_path) as (_, url, trusted):
        pool = pool_from_config({"foo.url": url, "foo.ssl_ca_certs": trusted}, "foo.")
        connection = pool.get_connection()
        opened = connection._sock
        connection.shutdown_socket()
        # What its holder sends now fails; without the TLS object it would be plain text.
        assert opened._sslobj is not None
        with pytest.raises(redis.ConnectionError):
            ask(connection)
        pool.release(connection)


# A primary that was demoted before anybody announced it


@pytest.fixture
def demoted(valkeys: SentinelSet) -> Iterator[Callable[[], Node]]:
    """Make a replica of the primary, of which the Sentinels hear only later."""
    primary = valkeys.primary()

    def demote() -> Node:
        primary.client.replicaof("127.0.0.1", "1")
        return primary

    yield demote
    primary.client.replicaof("NO", "ONE")


def test_a_write_to_a_demoted_primary_is_a_connection_error(
    foo: MonitoredRedisConnection, demoted: Callable[[], Node]
) -> None:
    foo.ping()
    old = demoted()
    error = error_of(lambda: foo.set("key", "value"))
    assert isinstance(error, redis.ConnectionError)
    assert str(error) == f"foo: The previous master is now a slave ({old.address})"
    assert is_retryable(error) is True  # it was refused


def test_a_write_to_a_demoted_primary_closes_the_other_idle_connections(
    foo: MonitoredRedisConnection, demoted: Callable[[], Node]
) -> None:
    pool = pool_of(foo)
    for connection in [pool.get_connection() for _ in range(3)]:
        pool.release(connection)
    demoted()
    error_of(lambda: foo.set("key", "value"))
    assert pool.stats.open == 0


def test_a_write_to_a_demoted_primary_ends_what_is_in_use_there(
    foo: MonitoredRedisConnection, demoted: Callable[[], Node]
) -> None:
    other = pool_of(foo).get_connection()
    demoted()
    error_of(lambda: foo.set("key", "value"))
    with pytest.raises(redis.ConnectionError):
        ask(other)
    pool_of(foo).release(other)


def test_a_script_that_a_demoted_primary_refuses_in_a_transaction_closes_its_connection(
    foo: MonitoredRedisConnection, demoted: Callable[[], Node]
) -> None:
    foo.ping()
    demoted()
    (refusal,) = foo.pipeline().eval(WRITE_SCRIPT, 0).execute(raise_on_error=False)
    assert isinstance(refusal, redis.ReadOnlyError)
    assert pool_of(foo).stats.open == 0


def test_exec_on_a_primary_that_was_demoted_meanwhile_closes_its_connection(
    foo: MonitoredRedisConnection, demoted: Callable[[], Node]
) -> None:
    connection = pool_of(foo).get_connection()
    for command in (("MULTI",), ("SET", "key", "value")):
        connection.send_command(*command)
        connection.read_response()
    demoted()
    connection.send_command("EXEC")
    with pytest.raises(redis.exceptions.ExecAbortError):
        connection.read_response()
    pool_of(foo).release(connection)
    assert pool_of(foo).stats.open == 0


def test_a_transaction_on_a_demoted_primary_may_be_retried(
    foo: MonitoredRedisConnection, demoted: Callable[[], Node]
) -> None:
    foo.ping()
    demoted()
    error = error_of(lambda: foo.pipeline().incr("key").incr("key").execute())
    assert isinstance(error, redis.ConnectionError)
    assert is_retryable(error) is True


def test_nobody_knows_what_a_pipeline_did_before_its_server_was_demoted(
    foo: MonitoredRedisConnection, demoted: Callable[[], Node]
) -> None:
    pipeline = foo.pipeline(transaction=False)
    pipeline.incr("key")
    pipeline.execute_command("REPLICAOF", "127.0.0.1", "1")
    pipeline.incr("key")
    error = error_of(pipeline.execute)
    assert isinstance(error, redis.ConnectionError)
    assert is_retryable(error) is None


# What is believed


class FakeSentinel:
    """Says of the primary what it is told to."""

    def __init__(self, number: int, **says: Any) -> None:
        self.connection_pool: Any = self
        self.connection_kwargs = {"host": "sentinel", "port": number}
        self.says: Any = says
        self.asked = 0

    def sentinel_masters(self) -> Any:
        self.asked += 1
        says = self.says() if callable(self.says) else self.says
        if isinstance(says, Exception):
            raise says
        return {"mymaster": state(**says)}


def state(port: int = 1, epoch: int = 0, flags: str = "master", others: int = 2) -> dict[str, Any]:
    return {
        "ip": "10.0.0.1",
        "port": port,
        "config-epoch": epoch,
        "flags": flags,
        "is_master": True,
        "is_sdown": "s_down" in flags,
        "is_odown": "o_down" in flags,
        "num-other-sentinels": others,
    }


def manager_of(*sentinels: Any, **keywords: int) -> SentinelManager:
    return SentinelManager(sentinels, **keywords)


def found(manager: SentinelManager) -> int | None:
    """The port of the primary, or ``None``."""
    try:
        return manager.discover_master("mymaster")[1]
    except MasterNotFoundError:
        return None


def told_of(manager: Any, port: int, epoch: int) -> None:
    """From now on its Sentinels name that primary."""
    for client in manager.sentinels:
        client.sentinel_masters = lambda: {
            "mymaster": {**state(port, epoch), "ip": "127.0.0.1"},
        }


def test_a_sentinel_that_is_behind_is_not_believed() -> None:
    late, current = FakeSentinel(1, port=1, epoch=3), FakeSentinel(2, port=2, epoch=4)
    manager = manager_of(late, current)
    assert found(manager) == 1
    late.says = redis.ConnectionError("gone")
    assert found(manager) == 2
    late.says = {"port": 1, "epoch": 3}
    manager.sentinels.sort(key=lambda client: client is current)  # the late one is asked first
    assert found(manager) == 2
    assert late.asked == 3


def test_nobody_is_believed_who_is_behind_an_announcement() -> None:
    manager = manager_of(FakeSentinel(1, port=1, epoch=3))
    assert manager.learn(4, ("10.0.0.1", 2))
    assert found(manager) is None


def test_an_old_announcement_is_no_news() -> None:
    manager = manager_of()
    assert manager.learn(4, ("10.0.0.1", 2))
    assert not manager.learn(3, ("10.0.0.1", 1))


def test_the_same_announcement_of_another_sentinel_is_no_news() -> None:
    manager = manager_of()
    assert manager.learn(4, ("10.0.0.1", 2))
    assert not manager.learn(4, ("10.0.0.1", 2))


def test_an_announcement_is_news_although_the_epoch_was_seen() -> None:
    manager = manager_of(FakeSentinel(1, port=1, epoch=4))
    found(manager)
    assert manager.learn(4, ("10.0.0.1", 2))


def test_a_primary_that_is_about_to_be_demoted_is_not_believed_in() -> None:
    manager = manager_of(FakeSentinel(1, port=1))
    manager.distrust(("10.0.0.1", 1))
    assert found(manager) is None


def test_doubt_ends_after_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(discovery, "_LONGEST_DISTRUST", 0.05)
    manager = manager_of(FakeSentinel(1, port=1))
    manager.distrust(("10.0.0.1", 1))
    time.sleep(0.06)
    assert found(manager) == 1


def test_doubt_ends_when_the_switch_is_known() -> None:
    sentinel = FakeSentinel(1, port=2, epoch=2)
    manager = manager_of(sentinel)
    manager.distrust(("10.0.0.1", 1))
    manager.learn(1, ("10.0.0.1", 2))
    sentinel.says = {"port": 1, "epoch": 2}  # back again
    assert found(manager) == 1


def test_whom_a_sentinel_promotes_is_known_before_it_names_him() -> None:
    promoting = FakeSentinel(1, port=1, epoch=4, flags="master,failover_in_progress")
    manager = manager_of(promoting, FakeSentinel(2, port=1, epoch=3))
    manager.learn(4, ("10.0.0.1", 2))
    assert found(manager) == 2


@pytest.mark.parametrize("news", ["a switch", "a doubt"])
def test_an_answer_that_was_overtaken_by_an_announcement_is_not_used(news: str) -> None:
    def answer_late() -> dict[str, Any]:
        if news == "a switch":
            manager.learn(4, ("10.0.0.1", 2))
        else:
            manager.distrust(("10.0.0.1", 1))
        return {"port": 1, "epoch": 3}

    late = FakeSentinel(1)
    late.says = answer_late
    manager = manager_of(late)
    assert found(manager) is None


def test_sentinels_that_were_set_up_anew_are_believed_after_a_while(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(discovery, "_LONGEST_LAG", 0.05)
    manager = manager_of(FakeSentinel(1, port=2), FakeSentinel(2, port=2), FakeSentinel(3, port=2))
    manager.learn(7, ("10.0.0.1", 1))
    assert found(manager) is None
    time.sleep(0.06)
    assert found(manager) == 2


def test_few_sentinels_that_are_behind_are_never_believed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(discovery, "_LONGEST_LAG", 0.0)
    cut_off = redis.ConnectionError("cut off")
    others = [FakeSentinel(2), FakeSentinel(3)]
    for other in others:
        other.says = cut_off
    manager = manager_of(FakeSentinel(1, port=1), *others)
    manager.learn(7, ("10.0.0.1", 2))
    for _ in range(3):
        assert found(manager) is None


@pytest.mark.parametrize("flags", ["s_down,master", "o_down,master"])
def test_a_primary_that_is_down_is_not_connected_to(flags: str) -> None:
    assert found(manager_of(FakeSentinel(1, flags=flags))) is None


def test_discoveries_at_once_lose_no_sentinel() -> None:
    sentinels = [FakeSentinel(number) for number in range(6)]
    for sentinel in sentinels:  # each fails now and then: another one comes first
        sentinel.says = partial(sometimes, sentinel)
    manager = manager_of(*sentinels)
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        in_threads(*[lambda: [found(manager) for _ in range(300)]] * 6)
    finally:
        sys.setswitchinterval(interval)
    assert set(map(id, manager.sentinels)) == set(map(id, sentinels))


def sometimes(sentinel: FakeSentinel) -> Any:
    return redis.ConnectionError("gone") if sentinel.asked % 3 == 0 else {}


def test_an_open_circuit_breaker_lets_requests_through_to_the_new_primary(
    make_foo: MakeFoo, valkeys: SentinelSet
) -> None:
    foo = make_foo(valkeys, breaker_failures="1", breaker_reset="1 minute")
    foo.ping()
    pool = pool_of(foo)
    pool.breaker.failed(redis.ConnectionError("the old primary is gone"))
    pool.switched((valkeys.primary().host, valkeys.primary().port))
    assert foo.ping()


# What is heard


class HearingPool:
    """What the listeners know of a pool."""

    pid = 0
    service_name = "mymaster"

    def __init__(self) -> None:
        self.sentinel_manager = manager_of()
        self.heard: list[Any] = []

    def get_master_address(self) -> None:
        pass

    def switched(self, address: Any) -> None:
        self.heard.append(("switched", address[1]))

    def demoted(self, address: Any) -> None:
        self.heard.append(("demoted", address[1]))


SWITCHED = (b"+switch-master", b"mymaster 10.0.0.1 1 10.0.0.1 2")
PROMOTING = (
    b"+failover-state-send-slaveof-noone",
    b"slave 10.0.0.1:2 10.0.0.1 2 @ mymaster 10.0.0.1 1",
)
PROMOTED = (b"+promoted-slave", PROMOTING[1])
BUSY = "master,failover_in_progress,force_failover"


def heard(announced: tuple[bytes, bytes], **says: Any) -> list[Any]:
    """What a pool makes of an announcement by a Sentinel that says so when it is asked."""
    pool = HearingPool()
    message = {"channel": announced[0], "data": announced[1]}
    reference: Any = weakref.ref(pool)
    sentinel: Any = FakeSentinel(1, **says)
    announcements_module._heard(reference, sentinel, message)
    return pool.heard


def test_a_switch_is_believed() -> None:
    assert heard(SWITCHED, port=2, epoch=1) == [("switched", 2)]


def test_a_promotion_is_believed_before_the_switch() -> None:
    assert heard(PROMOTED, port=1, epoch=1, flags=BUSY) == [("switched", 2)]


def test_the_beginning_of_a_promotion_demotes() -> None:
    assert heard(PROMOTING) == [("demoted", 1)]


@pytest.mark.parametrize("announced", [SWITCHED, PROMOTED], ids=["a switch", "a promotion"])
def test_an_announcement_that_is_heard_behind_the_next_failover_is_ignored(
    announced: tuple[bytes, bytes],
) -> None:
    # The Sentinel's epoch is the later one's by now.
    assert heard(announced, port=1, epoch=2) == []


@pytest.mark.parametrize("announced", [SWITCHED, PROMOTING, PROMOTED])
def test_announcements_of_another_service_are_ignored(announced: tuple[bytes, bytes]) -> None:
    channel, text = announced
    assert heard((channel, text.replace(b"mymaster", b"other")), port=2) == []


@pytest.mark.parametrize("text", [b"", b"mymaster", b"mymaster a b c d"])
def test_announcements_that_make_no_sense_are_ignored(text: bytes) -> None:
    assert heard((b"+switch-master", text)) == []


def test_a_failover_that_nobody_asks_about_is_heard(
    make_foo: MakeFoo, sentinels: SentinelSet
) -> None:
    foo = make_foo(sentinels)
    foo.ping()
    pool, new = pool_of(foo), sentinels.replica()
    wait_until(lambda: listeners_at(sentinels, pool) == 3)
    sentinels.failover()
    wait_until(lambda: pool.master_address == (new.host, new.port))
    assert pool.stats.open == 0


# Threads, memory, processes


def listeners_at(sentinels: SentinelSet, pool: Any) -> int:
    """How many connections of a pool the Sentinels have that wait for announcements."""
    name = pool if isinstance(pool, str) else pool.connection_kwargs["client_name"]
    connected = [c for node in sentinels.sentinels for c in node.client.client_list()]
    return sum(c["name"] == name and int(c["sub"]) == 3 for c in connected)


def test_each_sentinel_is_listened_to_once(valkeys: SentinelSet, make_foo: MakeFoo) -> None:
    foo = make_foo(valkeys)
    threads = [threading.Thread(target=foo.ping) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    wait_until(lambda: listeners_at(valkeys, pool_of(foo)) >= 3)
    time.sleep(0.1)
    assert listeners_at(valkeys, pool_of(foo)) == 3


def test_where_no_thread_can_be_started_the_next_request_tries_again(
    valkeys: SentinelSet, make_foo: MakeFoo, monkeypatch: pytest.MonkeyPatch
) -> None:
    foo = make_foo(valkeys)
    start, started = _thread.start_new_thread, []

    def start_one(*args: Any) -> int:
        if started:
            raise RuntimeError("can't start new thread")
        started.append(args)
        return start(*args)

    with monkeypatch.context() as patch:
        patch.setattr(_thread, "start_new_thread", start_one)
        foo.ping()
        foo.ping()
    foo.ping()
    wait_until(lambda: listeners_at(valkeys, pool_of(foo)) >= 3)
    time.sleep(0.1)
    assert listeners_at(valkeys, pool_of(foo)) == 3


def dropped_pool(sentinels: SentinelSet, name: str) -> weakref.ref[Any]:
    """Make a pool that all Sentinels are listened to for, and drop it."""
    pool = sentinel_pool_from_config({"foo.url": sentinels.url, "foo.client_name": name}, "foo.")
    pool.release(pool.get_connection())
    wait_until(lambda: listeners_at(sentinels, name) == 3)
    return weakref.ref(pool)


def test_the_listeners_end_when_the_pool_is_dropped(valkeys: SentinelSet) -> None:
    dropped_pool(valkeys, "dropped")
    wait_until(lambda: listeners_at(valkeys, "dropped") == 0, 2.5)


def test_a_pool_that_is_dropped_is_freed_at_once(valkeys: SentinelSet) -> None:
    gc.disable()
    try:
        pool = dropped_pool(valkeys, "freed")
        wait_until(lambda: pool() is None, 0.5)
    finally:
        gc.enable()


def test_a_listener_whose_sentinel_hangs_up_comes_back(
    foo: MonitoredRedisConnection, valkeys: SentinelSet
) -> None:
    foo.ping()
    wait_until(lambda: listeners_at(valkeys, pool_of(foo)) == 3)
    for node in valkeys.sentinels:
        node.client.client_kill_filter(_type="pubsub")
    wait_until(lambda: listeners_at(valkeys, pool_of(foo)) == 3, 3)


def test_a_forked_process_listens_for_itself(
    foo: MonitoredRedisConnection, valkeys: SentinelSet
) -> None:
    foo.ping()
    wait_until(lambda: listeners_at(valkeys, pool_of(foo)) == 3)

    def in_the_child() -> int:
        foo.ping()
        wait_until(lambda: listeners_at(valkeys, pool_of(foo)) == 6)
        return listeners_at(valkeys, pool_of(foo))

    assert in_child(in_the_child) == 6


def test_a_forked_process_has_connections_of_its_own(
    foo: MonitoredRedisConnection, valkeys: SentinelSet
) -> None:
    number = foo.client_id()
    assert in_child(foo.client_id) != number
    assert foo.client_id() == number


# Across a failover


def test_requests_go_to_the_new_primary(
    make_foo: MakeFoo, sentinels: SentinelSet, spans: RecordedSpans
) -> None:
    foo, old, new = make_foo(sentinels), sentinels.primary(), sentinels.replica()
    foo.set("key", "value")
    sentinels.failover()
    sentinels.wait_for_new_primary(old.port)
    wait_until(lambda: pool_of(foo).master_address == (new.host, new.port))
    spans.clear()
    foo.set("key", "another")
    assert ports(spans) == [("foo.SET", new.port)]


def failed_over(foo: MonitoredRedisConnection, sentinels: SentinelSet) -> None:
    new = sentinels.replica()
    sentinels.failover()
    wait_until(lambda: pool_of(foo).master_address == (new.host, new.port))


def test_a_lock_that_was_replicated_is_still_held(
    foo: MonitoredRedisConnection, valkeys: SentinelSet
) -> None:
    lock = foo.lock("lock", timeout=30)
    lock.acquire()
    assert foo.wait(1, 1000) == 1
    failed_over(foo, valkeys)
    assert not foo.lock("lock", blocking=False).acquire()
    lock.release()
    assert foo.lock("lock", timeout=1, blocking=False).acquire()


def test_a_subscriber_goes_on_at_the_new_primary(
    foo: MonitoredRedisConnection, valkeys: SentinelSet
) -> None:
    with foo.pubsub() as subscriber:
        subscriber.subscribe("news")
        subscriber.get_message(timeout=1)
        failed_over(foo, valkeys)
        messages = []
        deadline = time.monotonic() + 5
        while not messages and time.monotonic() < deadline:
            foo.publish("news", "a message")
            try:
                message = subscriber.get_message(timeout=0.1)
            except redis.ConnectionError:
                continue
            messages += [message["data"]] if message and message["type"] == "message" else []
        assert messages[:1] == [b"a message"]


def test_a_queue_that_waits_gets_what_is_put_at_the_new_primary(
    foo: MonitoredRedisConnection, valkeys: SentinelSet
) -> None:
    got: list[bytes] = []
    waiting = threading.Thread(
        target=lambda: got.append(foo.message_queue("jobs").get()), daemon=True
    )
    waiting.start()
    admin = valkeys.primary().client
    wait_until(lambda: admin.info("clients")["blocked_clients"])
    failed_over(foo, valkeys)
    foo.message_queue("jobs").put("a job")
    waiting.join(5)
    assert got == [b"a job"]


# In an application


def test_an_application_includes_it_like_any_other_client(
    valkeys: SentinelSet, make_config: Callable[..., Configurator]
) -> None:
    config = make_config(foo__url=valkeys.url)
    config.add_route("home", "/")
    config.add_view(lambda request: request.foo.incr("hits"), route_name="home", renderer="json")
    app = webtest.TestApp(config.make_wsgi_app())
    assert [app.get("/").json, app.get("/").json] == [1, 2]


def test_an_application_is_built_while_no_sentinel_is_there(
    make_config: Callable[..., Configurator],
) -> None:
    make_config(foo__url=NOWHERE).make_wsgi_app()


def test_a_sentinel_client_may_be_declared(
    valkeys: SentinelSet, make_config: Callable[..., Configurator]
) -> None:
    config = make_config(foo__url=valkeys.url)
    config.add_redis_client("foo", SentinelRedisClient(max_connections=3))
    config.add_route("home", "/")
    config.add_view(
        lambda request: request.foo.connection_pool.max_connections, route_name="home",
        renderer="json",
    )  # fmt: skip
    assert webtest.TestApp(config.make_wsgi_app()).get("/").json == 3


def test_a_declared_sentinel_client_insists_on_sentinels(
    make_config: Callable[..., Configurator], valkey: Server
) -> None:
    config = make_config(foo__url=valkey.url)
    config.add_redis_client("foo", SentinelRedisClient())
    with pytest.raises(ConfigurationExecutionError) as caught:
        config.make_wsgi_app()
    assert (
        "foo.url: is not a Sentinel URL. Write it like "
        "redis+sentinel://host1:26379,host2:26379/mymaster/0"
    ) in str(caught.value)
