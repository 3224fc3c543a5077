"""A server that becomes a replica, while its host name leads to the new primary."""

from __future__ import annotations

import gc
import socket
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis

from pyramid_baseplate_redis import (
    BlockingConnectionPool,
    MonitoredRedisConnection,
    is_retryable,
)
from pyramid_baseplate_redis.pool import demotion as demotion_module

from ..support.servers import KINDS, MakeClient, Server, running_server

HOST = "redis.example"
WRITE_SCRIPT = "return redis.call('SET', 'key', 'value')"

Client = MonitoredRedisConnection


class Failover:
    """Two servers, and a host name that leads to one of them."""

    def __init__(self, old: Server, new: Server) -> None:
        self.old = old
        self.new = new
        self.leads_to = old

    @property
    def url(self) -> str:
        return f"redis://{HOST}:6379/0"

    def demote(self) -> None:
        """Make the first server a replica of the second one."""
        with redis.Redis(port=self.old.port) as admin:
            admin.replicaof("127.0.0.1", self.new.port)

    def happen(self) -> None:
        """Demote the first server, and have the host name lead to the second one."""
        self.demote()
        self.leads_to = self.new


@pytest.fixture(scope="module", params=KINDS)
def servers(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Server, Server]]:
    """Two servers of each kind in turn."""
    directory = tmp_path_factory.mktemp("demotion")
    options = ("--shutdown-timeout", "0")  # or a primary waits for its replica when it ends
    with (
        running_server(request.param, directory, *options) as old,
        running_server(request.param, directory, *options) as new,
    ):
        yield old, new


@pytest.fixture
def failover(servers: tuple[Server, Server], monkeypatch: pytest.MonkeyPatch) -> Iterator[Failover]:
    getaddrinfo = socket.getaddrinfo

    def resolve(host: Any, port: Any, *args: Any, **kwargs: Any) -> Any:
        if host == HOST:
            host, port = "127.0.0.1", made.leads_to.port
        return getaddrinfo(host, port, *args, **kwargs)

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    made = Failover(*servers)
    yield made
    for server in servers:
        with redis.Redis(port=server.port) as admin:
            admin.replicaof("no", "one")
            admin.flushall()


@pytest.fixture
def client(failover: Failover, make_client: MakeClient) -> Client:
    return make_client(failover.url)


def port_of(client: redis.Redis) -> int:
    """The port of the server that answers a client."""
    return int(client.config_get("port")["port"])


def refusal_of(call: Callable[[], Any]) -> redis.ReadOnlyError:
    with pytest.raises(redis.ReadOnlyError) as caught:
        call()
    return caught.value


def fill(client: Client, connections: int) -> None:
    """Leave so many idle connections in the pool."""
    pool = client.connection_pool
    for connection in [pool.get_connection() for _ in range(connections)]:
        pool.release(connection)


COMMANDS: dict[str, Callable[[Client], Any]] = {
    "command": lambda client: client.set("key", "value"),
    "blocking command": lambda client: client.blpop(["list"], timeout=1),
    "script": lambda client: client.eval(WRITE_SCRIPT, 0),
    "registered script": lambda client: client.register_script(WRITE_SCRIPT)(),
    "transaction": lambda client: client.pipeline().set("key", "value").get("key").execute(),
    "put": lambda client: client.message_queue("jobs").put("job"),
    "durable put": lambda client: client.durable_queue("durable").put("job"),
}
SEVERAL: dict[str, Callable[[Client], Any]] = {
    "pipeline": lambda client: (
        client.pipeline(transaction=False).set("key", "value").get("key").execute()
    ),
    "script in a transaction": lambda client: client.pipeline().eval(WRITE_SCRIPT, 0).execute(),
}
OTHERS: dict[str, Callable[[Client], Any]] = {
    "get": lambda client: client.message_queue("jobs").get(1),
    "durable get": lambda client: client.durable_queue("durable").get(1),
    "own connection": lambda client: client.client().set("key", "value"),
    "plain client": lambda client: redis.Redis(connection_pool=client.connection_pool).set(
        "key", "value"
    ),
    "transaction function": lambda client: client.transaction(
        lambda pipeline: pipeline.set("key", "value"), "key"
    ),
}
WRITES = COMMANDS | SEVERAL | OTHERS


@pytest.mark.parametrize("write", WRITES)
def test_after_a_refused_write_the_host_name_is_looked_up_again(
    failover: Failover, client: Client, write: str
) -> None:
    client.durable_queue("durable").put("so that there is a group")
    fill(client, 3)
    failover.happen()
    refusal_of(lambda: WRITES[write](client))
    assert port_of(client) == failover.new.port


def test_the_error_is_redis_pys(failover: Failover, client: Client) -> None:
    failover.demote()
    with redis.Redis(port=failover.old.port) as plain:
        expected = refusal_of(lambda: plain.set("key", "value"))
    error = refusal_of(lambda: client.set("key", "value"))
    assert (type(error), error.args, error.status_code) == (
        type(expected), expected.args, expected.status_code,
    )  # fmt: skip
    assert is_retryable(error) is True


def test_a_refusal_among_the_results_of_a_pipeline_counts(
    failover: Failover, client: Client
) -> None:
    client.ping()
    failover.happen()
    (refusal,) = client.pipeline().eval(WRITE_SCRIPT, 0).execute(raise_on_error=False)
    assert isinstance(refusal, redis.ReadOnlyError)
    assert port_of(client) == failover.new.port


def test_exec_after_a_demotion_counts(failover: Failover, client: Client) -> None:
    pool = client.connection_pool
    connection = pool.get_connection()
    for command in (("MULTI",), ("SET", "key", "value")):
        connection.send_command(*command)
        connection.read_response()
    failover.happen()
    connection.send_command("EXEC")
    with pytest.raises(redis.exceptions.ExecAbortError):
        connection.read_response()
    pool.release(connection)
    assert port_of(client) == failover.new.port


def test_idle_connections_are_closed(failover: Failover, client: Client) -> None:
    fill(client, 3)
    failover.demote()
    refusal_of(lambda: client.set("key", "value"))
    assert client.connection_pool.stats.open == 0


def test_a_connection_in_use_gets_its_reply_and_is_closed_when_it_is_released(
    failover: Failover, client: Client
) -> None:
    pool = client.connection_pool
    other = pool.get_connection()
    other.send_command("ECHO", "text")
    failover.demote()
    refusal_of(lambda: client.set("key", "value"))
    assert other.read_response() == b"text"
    pool.release(other)
    assert pool.stats.open == 0


def test_a_pipeline_that_watches_keeps_its_connection(failover: Failover, client: Client) -> None:
    # On another one its keys wouldn't be watched.
    with client.pipeline() as pipeline:
        pipeline.watch("key")
        watching = pipeline.client_id()
        failover.happen()
        refusal_of(lambda: pipeline.set("key", "value"))
        assert pipeline.client_id() == watching
    assert port_of(client) == failover.new.port


def test_a_client_with_a_connection_of_its_own_connects_anew(
    failover: Failover, client: Client
) -> None:
    with client.client() as own:
        own.ping()
        failover.happen()
        refusal_of(lambda: own.set("key", "value"))
        assert port_of(own) == failover.new.port


def test_a_client_with_a_connection_of_its_own_connects_anew_after_another_callers_refusal(
    failover: Failover, client: Client
) -> None:
    with client.client() as own:
        own.ping()
        client.ping()
        failover.happen()
        refusal_of(lambda: client.set("key", "value"))
        assert own.set("key", "value")
        assert port_of(own) == failover.new.port


def test_a_client_that_watches_keeps_its_connection_after_another_callers_refusal(
    failover: Failover, client: Client
) -> None:
    with client.client() as own:
        own.execute_command("WATCH", "key")
        number = own.client_id()
        client.ping()
        failover.happen()
        refusal_of(lambda: client.set("key", "value"))
        assert own.client_id() == number


def test_a_client_with_a_connection_of_its_own_connects_anew_once(
    failover: Failover, client: Client
) -> None:
    with client.client() as own:
        failover.happen()
        refusal_of(lambda: own.set("key", "value"))
        own.client_setname("mine")
        assert own.client_getname() in ("mine", b"mine")


def test_a_client_with_a_connection_of_its_own_keeps_it_beyond_its_lifetime(
    failover: Failover, make_client: MakeClient
) -> None:
    client = make_client(failover.url, max_lifetime="50 milliseconds")
    with client.client() as own:
        own.client_setname("mine")
        time.sleep(0.06)
        assert own.client_getname() in ("mine", b"mine")


def test_a_connection_in_another_database_is_kept_by_its_holder(
    failover: Failover, client: Client
) -> None:
    # The next write would go to database 0.
    with client.client() as own:
        own.execute_command("SELECT", 1)
        failover.happen()
        refusal_of(lambda: own.set("key", "value"))
        assert own.client_info()["db"] == 1


# A replica on purpose


def test_connections_to_a_replica_are_renewed_once_a_second_at_most(
    failover: Failover, client: Client
) -> None:
    failover.demote()
    for _ in range(20):
        refusal_of(lambda: client.set("key", "value"))
    assert client.connection_pool.stats.creations == 2


def test_connections_are_renewed_again_after_that_time(
    failover: Failover, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(demotion_module, "_SECONDS_BETWEEN_RENEWALS", 0.0)
    failover.demote()
    for _ in range(3):
        refusal_of(lambda: client.set("key", "value"))
    assert client.connection_pool.stats.creations == 3


# Retries


@pytest.mark.parametrize("write", COMMANDS)
def test_with_retries_a_refused_write_goes_to_the_new_primary(
    failover: Failover, make_client: MakeClient, write: str
) -> None:
    client = make_client(failover.url, retries="1")
    for server in (failover.old, failover.new):
        with redis.Redis(port=server.port) as admin:
            admin.script_load(WRITE_SCRIPT)
            admin.rpush("list", "item")
    fill(client, 3)
    failover.happen()
    COMMANDS[write](client)
    assert port_of(client) == failover.new.port


@pytest.mark.parametrize("write", SEVERAL)
def test_what_may_have_been_executed_in_part_is_not_tried_again(
    failover: Failover, make_client: MakeClient, write: str
) -> None:
    client = make_client(failover.url, retries="5")
    client.ping()
    failover.happen()
    refusal_of(lambda: SEVERAL[write](client))


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        ("READONLY You can't write against a read only replica.", True),
        ("READONLY", False),
        ("EXECABORT ... READONLY You can't write against a read only replica.", True),
        ("ERR the key is READONLY ", False),
    ],
)
def test_an_error_reply_shows_that_the_server_is_a_replica(reply: str, expected: bool) -> None:
    assert demotion_module.says_read_only(reply) is expected


def test_a_pool_that_is_gone_is_not_renewed() -> None:
    renew = demotion_module.PoolRenewal(BlockingConnectionPool())
    gc.collect()

    assert renew() is False
