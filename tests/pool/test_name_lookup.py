"""The look-up of a host name takes no longer than connecting may, and costs one thread."""

from __future__ import annotations

import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import redis

from pyramid_baseplate_redis import pool_from_config
from pyramid_baseplate_redis.pool.connections import name_lookup
from pyramid_baseplate_redis.pool.connections.name_lookup import is_name, look_up

from ..faults.helpers import in_child, tls_server
from ..support.servers import MakeClient, Server, needs_debian_redis, wait_until

NAME = "redis.example"
QUERY = (NAME, 6379, 0)
SLACK = 0.5  # for a busy machine


class Resolver:
    """Looks up ``redis.example``, when it may.

    :param port: of the server to which the name leads.
    """

    def __init__(self, port: int = 6379) -> None:
        self.port = port
        self.answers = threading.Event()
        self.asked: Counter[str] = Counter()
        self.error: Exception | None = None
        self.before: list[Any] = []  # addresses in front of the server's
        self._look_up = socket.getaddrinfo

    def __call__(self, host: Any, port: Any, *args: Any, **kwargs: Any) -> Any:
        if host != NAME:
            return self._look_up(host, port, *args, **kwargs)
        self.asked[host] += 1
        assert self.answers.wait(30)
        if self.error is not None:
            raise self.error
        return [*self.before, (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", self.port))]


@pytest.fixture
def resolver(valkey: Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[Resolver]:
    made = Resolver(valkey.port)
    monkeypatch.setattr(socket, "getaddrinfo", made)
    name_lookup._look_ups.own().clear()
    yield made
    made.answers.set()
    wait_until(lambda: all(each.ended.is_set for each in name_lookup._look_ups.own().values()))
    name_lookup._look_ups.own().clear()


def fails_after(seconds: float, call: Callable[[], Any]) -> redis.TimeoutError:
    started = time.monotonic()
    with pytest.raises(redis.TimeoutError) as caught:
        call()
    assert seconds * 0.9 < time.monotonic() - started < seconds + SLACK
    return caught.value


def test_a_name_leads_to_its_server(make_client: MakeClient, resolver: Resolver) -> None:
    resolver.answers.set()
    client = make_client(f"redis://{NAME}")
    client.set("key", "value")
    assert resolver.asked[NAME] == 1
    pool = client.connection_pool
    connection = pool.get_connection()
    assert (connection.host, connection.port) == (NAME, 6379)
    assert connection.peer == ("127.0.0.1", resolver.port)
    pool.release(connection)


def test_a_look_up_that_hangs_ends_with_socket_connect_timeout(
    make_client: MakeClient, resolver: Resolver
) -> None:
    client = make_client(f"redis://{NAME}", socket_connect_timeout="100 ms")
    error = fails_after(0.1, client.ping)
    assert str(error) == f"foo: Timeout connecting to server ({NAME}:6379)"


def test_a_deadline_ends_it_before(make_client: MakeClient, resolver: Resolver) -> None:
    client = make_client(f"redis://{NAME}")
    with client.within(0.1) as foo:
        error = fails_after(0.1, foo.ping)
    assert "passed while connecting" in str(error)


def test_all_callers_share_one_look_up(make_client: MakeClient, resolver: Resolver) -> None:
    client = make_client(f"redis://{NAME}", socket_connect_timeout="200 ms", max_connections="20")
    with ThreadPoolExecutor(20) as threads:
        for _ in range(2):
            calls = [threads.submit(client.ping) for _ in range(20)]
            assert all(isinstance(call.exception(), redis.TimeoutError) for call in calls)
        assert resolver.asked[NAME] == 1
        calls = [threads.submit(client.ping) for _ in range(20)]
        resolver.answers.set()
        assert [call.exception() for call in calls] == [None] * 20


def test_the_next_look_up_is_anew(resolver: Resolver) -> None:
    resolver.answers.set()
    for count in (1, 2):
        look_up(*QUERY, 5)
        assert resolver.asked[NAME] == count


def test_a_late_result_serves_the_next_callers_for_a_while(
    resolver: Resolver, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(TimeoutError):
        look_up(*QUERY, 0.01)
    (late,) = name_lookup._look_ups.own().values()
    resolver.answers.set()
    assert late.ended.wait(5)
    for _ in range(2):
        assert look_up(*QUERY, 5)[0][4] == ("127.0.0.1", resolver.port)
    assert resolver.asked[NAME] == 1
    late.expires_at = time.monotonic() - 1
    look_up(*QUERY, 5)
    assert resolver.asked[NAME] == 2


def test_an_error_is_redis_pys(make_client: MakeClient, resolver: Resolver) -> None:
    resolver.answers.set()
    resolver.error = socket.gaierror(socket.EAI_NONAME, "Name or service not known")
    client = make_client(f"redis://{NAME}")
    with pytest.raises(redis.ConnectionError) as caught:
        client.ping()
    with pytest.raises(redis.ConnectionError) as plain:
        redis.Redis(NAME, retry=None).ping()
    assert str(plain.value) in str(caught.value)
    assert "-2 connecting to redis.example:6379. Name or service not known" in str(caught.value)


def test_each_caller_has_an_error_of_its_own(resolver: Resolver) -> None:
    resolver.error = socket.gaierror(socket.EAI_AGAIN, "Temporary failure")
    with ThreadPoolExecutor(2) as threads:
        calls = [threads.submit(look_up, *QUERY, 5) for _ in range(2)]
        wait_until(lambda: resolver.asked[NAME])
        time.sleep(0.05)
        resolver.answers.set()
        first, second = [call.exception() for call in calls]
    assert first is not second
    assert repr(first) == repr(second) == repr(resolver.error)


def test_a_late_error_is_not_kept(resolver: Resolver) -> None:
    resolver.error = socket.gaierror(socket.EAI_AGAIN, "Temporary failure")
    with pytest.raises(TimeoutError):
        look_up(*QUERY, 0.01)
    (late,) = name_lookup._look_ups.own().values()
    resolver.answers.set()
    assert late.ended.wait(5)
    wait_until(lambda: not name_lookup._look_ups.own())
    resolver.error = None
    assert look_up(*QUERY, 5)


def test_the_next_caller_starts_what_an_interruption_has_not(
    resolver: Resolver, monkeypatch: pytest.MonkeyPatch
) -> None:
    resolver.answers.set()
    with monkeypatch.context() as patch:
        patch.setattr(name_lookup._LookUp, "start", lambda self: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            look_up(*QUERY, 5)
    assert look_up(*QUERY, 5)


def test_an_interrupted_thread_fails_its_callers(resolver: Resolver) -> None:
    class Killed(BaseException):
        pass

    made = name_lookup._LookUp((*QUERY, socket.SOCK_STREAM))
    resolver.answers.set()
    resolver.error = Killed()  # type: ignore[assignment]
    with pytest.raises(Killed):
        list(made._steps())
    assert made.ended.is_set
    assert isinstance(made.error, socket.gaierror)


def test_a_second_thread_that_was_started_makes_no_call(resolver: Resolver) -> None:
    resolver.answers.set()
    made = name_lookup._LookUp((*QUERY, socket.SOCK_STREAM))
    for _ in range(2):
        assert not [*made._steps()]
    assert resolver.asked[NAME] == 1


def test_without_a_thread_left_the_caller_looks_up_itself(
    resolver: Resolver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(name_lookup, "start_thread", lambda steps: False)
    resolver.answers.set()
    assert look_up(*QUERY, 5)


def test_a_forked_process_looks_up_itself(resolver: Resolver) -> None:
    with pytest.raises(TimeoutError):
        look_up(*QUERY, 0.01)

    def in_the_child() -> int:
        resolver.answers = threading.Event()
        resolver.answers.set()
        return len(look_up(*QUERY, 5))

    assert in_child(in_the_child) == 1


def test_the_next_address_is_tried(
    make_client: MakeClient, resolver: Resolver, valkey: Server
) -> None:
    refused = (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", 1))
    resolver.before = [refused]
    resolver.answers.set()
    assert make_client(f"redis://{NAME}").ping()


def test_no_address_is_an_error(
    make_client: MakeClient, resolver: Resolver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", lambda *args: [])
    with pytest.raises(redis.ConnectionError, match="The host name has no address"):
        make_client(f"redis://{NAME}").ping()


@needs_debian_redis
def test_tls_verifies_the_name_and_not_the_address(
    make_client: MakeClient, resolver: Resolver, tmp_path: Path
) -> None:
    resolver.answers.set()
    with tls_server(tmp_path) as (_, url, authority):
        resolver.port = int(url.rpartition(":")[2])
        assert make_client(url, ssl_ca_certs=authority).ping()  # its certificate has the address
        with pytest.raises(redis.ConnectionError, match=r"mismatch.*redis\.example"):
            make_client(f"rediss://{NAME}", ssl_ca_certs=authority).ping()
        unchecked = make_client(
            f"rediss://{NAME}", ssl_ca_certs=authority, ssl_check_hostname="false"
        )
        assert unchecked.ping()


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "fe80::1%eth0", "localhost"])
def test_addresses_are_not_looked_up(host: str) -> None:
    assert not is_name(host)


@pytest.mark.parametrize("host", ["redis", "redis.example.org", "1.2.3.4.5", "127.0.0.1.nip.io"])
def test_names_are_looked_up(host: str) -> None:
    assert is_name(host)


def test_an_applications_connection_class_connects_in_its_own_way(
    resolver: Resolver, valkey: Server
) -> None:
    class Tunnel(redis.Connection):
        def _connect(self) -> Any:
            return socket.create_connection(("127.0.0.1", valkey.port))

    pool = pool_from_config({"foo.url": f"redis://{NAME}"}, "foo.", connection_class=Tunnel)
    assert redis.Redis(connection_pool=pool).ping()
    assert not resolver.asked
    pool.disconnect()
