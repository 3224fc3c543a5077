"""predis check: what each client's servers answer."""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import redis

from pyramid_baseplate_redis.cli.servers import at_once

from ..support.cli import Predis
from ..support.servers import Server, free_port, running_server
from ..support.topologies import Cluster, SentinelSet


def servers_of(report: Any, client: str = "foo") -> dict[str, Any]:
    (found,) = [one for one in report["clients"] if one["name"] == client]
    return {server["address"]: server for server in found["servers"]}


def test_a_server_that_answers_is_ok(predis: Predis, server: Server) -> None:
    predis.write(foo__url=server.url)

    ended = predis("check", "--json")

    assert (ended.status, ended.json["ok"]) == (0, True)
    ((address, found),) = servers_of(ended.json).items()
    with redis.Redis(port=server.port) as client:
        info = client.info("server")
    version = info.get("valkey_version") or info["redis_version"]
    assert address == f"127.0.0.1:{server.port}"
    assert found["role"] == "primary"
    assert found["server"] == f"{server.software} {version}"
    assert found["ping_seconds"] > 0


def test_an_old_protocol_tells_as_much(predis: Predis, valkey: Server) -> None:
    predis.write(foo__url=valkey.url, foo__protocol="2", foo__decode_responses="true")

    (found,) = servers_of(predis("check", "--json").json).values()

    assert found["role"] == "primary"
    assert found["server"].startswith("valkey ")


def test_the_pool_and_the_settings_are_reported(predis: Predis, valkey: Server) -> None:
    predis.write("in_code", foo__url=valkey.url, foo__max_connections="7")

    (client,) = predis("check", "--json").json["clients"]

    assert client["pool"] == {"class": "BlockingConnectionPool", "max_connections": 7}
    settings = {item["key"]: (item["value"], item["origin"]) for item in client["settings"]}
    assert settings["max_connections"] == (7, ".ini")
    assert settings["socket_timeout"] == (3.0, "keyword argument")
    assert settings["retries"] == (0, "default")
    assert settings["decode_responses"] == (False, "default")


def test_people_see_the_same(predis: Predis, valkey: Server) -> None:
    predis.write("in_code", foo__url=valkey.url, foo__max_connections="7")

    ended = predis("check")

    rows = [line.split() for line in ended.out.splitlines()]
    assert ["foo.max_connections", "7", ".ini"] in rows
    assert ["foo.socket_timeout", "3", "seconds", "keyword", "argument"] in rows
    assert "pool: BlockingConnectionPool, at most 7 connections for each process" in ended.out


def test_a_server_that_is_down_fails_and_the_others_are_reported(
    predis: Predis, valkey: Server
) -> None:
    predis.write(foo__url=valkey.url, bar__url=f"redis://127.0.0.1:{free_port()}")

    ended = predis("check", "--json")

    assert (ended.status, ended.json["ok"]) == (1, False)
    assert [(one["name"], one["ok"]) for one in ended.json["clients"]] == [
        ("bar", False),
        ("foo", True),
    ]
    (down,) = servers_of(ended.json, "bar").values()
    assert down["error"].startswith("ConnectionError: bar: Error 111")


def test_people_see_why_a_server_fails(predis: Predis) -> None:
    predis.write(foo__url=f"redis://127.0.0.1:{free_port()}")

    ended = predis("check")

    (verdict,) = [line for line in ended.out.splitlines() if line.startswith("foo: failed")]
    assert "ConnectionError: foo: Error 111" in verdict


def test_the_verdicts_come_last_one_line_for_each_client(predis: Predis, valkey: Server) -> None:
    predis.write(foo__url=valkey.url, bar__url=f"redis://127.0.0.1:{free_port()}")

    last = predis("check").out.splitlines()[-4:]  # the application declares queues, too
    bar, foo = [line for line in last if line.startswith(("bar: ", "foo: "))]

    assert bar.startswith("bar: failed: 127.0.0.1:")
    assert foo.startswith(f"foo: ok: standalone, 127.0.0.1:{valkey.port}, ping ")


def test_defaults_are_shown_with_all_only(predis: Predis, valkey: Server) -> None:
    predis.write(foo__url=valkey.url)

    assert "foo.retries" not in predis("check").out
    assert "foo.retries" in predis("check", "--all").out


def test_declared_queues_have_a_verdict(predis: Predis, valkey: Server) -> None:
    with redis.Redis(port=valkey.port) as client:
        client.rpush("mails", "one")
    predis.write(foo__url=valkey.url, mails__queue="foo", jobs__queue="foo", jobs__durable="true")

    *_, jobs, mails = predis("check").out.splitlines()

    assert jobs == "jobs: ok: durable queue on foo, 0 messages"
    assert mails == "mails: ok: message queue on foo, 1 message"


def test_programs_get_the_queues(predis: Predis, valkey: Server) -> None:
    predis.write(foo__url=valkey.url, jobs__queue="foo", jobs__durable="true")

    assert predis("check", "--json").json["queues"] == [
        {
            "ok": True, "name": "jobs", "kind": "durable", "client": "foo", "length": 0, "dead": 0,
            "error": None,
        }
    ]  # fmt: skip


def test_a_queue_that_is_no_list_fails(predis: Predis, valkey: Server) -> None:
    with redis.Redis(port=valkey.port) as client:
        client.set("mails", "text")
    predis.write(foo__url=valkey.url, mails__queue="foo")

    ended = predis("check")

    assert ended.status == 1
    assert ended.out.splitlines()[-1].startswith("mails: failed: ResponseError: WRONGTYPE")


def test_the_queues_of_a_failed_client_are_not_asked(predis: Predis) -> None:
    predis.write(foo__url=f"redis://127.0.0.1:{free_port()}", mails__queue="foo")

    ended = predis("check")

    assert ended.out.splitlines()[-1] == "mails: failed: not asked, because foo failed"


def test_a_server_that_is_frozen_fails_after_its_timeout(
    predis: Predis, valkey: Server, tmp_path: Path
) -> None:
    with running_server("valkey", tmp_path) as frozen:
        process = frozen.executor.process
        assert process is not None
        os.kill(process.pid, signal.SIGSTOP)
        try:
            predis.write(
                foo__url=valkey.url, bar__url=frozen.url, bar__socket_timeout="200 milliseconds"
            )
            ended = predis("check", "--json")
        finally:
            os.kill(process.pid, signal.SIGCONT)

    (server,) = servers_of(ended.json, "bar").values()
    assert server["error"].startswith("TimeoutError: bar: ")
    (server,) = servers_of(ended.json, "foo").values()
    assert server["error"] is None


def test_a_failure_is_reported_at_once_whatever_the_retries_are(predis: Predis) -> None:
    attempts: list[object] = []

    def hang_up(listener: socket.socket) -> None:
        with suppress(OSError):
            while True:
                connection, address = listener.accept()
                attempts.append(address)
                connection.close()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=hang_up, args=(listener,), daemon=True).start()
        port = listener.getsockname()[1]
        predis.write(foo__url=f"redis://127.0.0.1:{port}", foo__retries="5")

        ended = predis("check")

    assert ended.status == 1
    assert len(attempts) == 1


def test_a_wrong_password_fails(predis: Predis, tmp_path: Path) -> None:
    with running_server("valkey", tmp_path, "--requirepass", "right") as server:
        predis.write(foo__url=server.url, foo__password="wrong-QZX")

        ended = predis("check", "--json")

    (found,) = servers_of(ended.json).values()
    assert ended.status == 1
    assert found["error"].startswith("AuthenticationError: ")
    assert "wrong-QZX" not in ended.out


def test_an_application_without_clients_is_an_error(predis: Predis) -> None:
    predis.write("without", foo__url="redis://localhost")

    ended = predis("check")

    assert ended.status == 2
    assert ended.err.startswith("predis: the application has no Redis client: ")


def test_all_servers_behind_sentinel_are_asked(
    predis: Predis, valkey_sentinels: SentinelSet
) -> None:
    valkey_sentinels.tidy()
    predis.write(foo__url=valkey_sentinels.url)

    ended = predis("check", "--json")

    roles = {address: one["role"] for address, one in servers_of(ended.json).items()}
    assert ended.status == 0
    assert roles == {
        valkey_sentinels.primary().address: "primary",
        valkey_sentinels.replica().address: "replica",
    }


def test_servers_behind_sentinel_are_asked_with_the_clients_passwords(
    predis: Predis, fresh_sentinels: Callable[..., SentinelSet]
) -> None:
    sentinels = fresh_sentinels(
        username="web", password="of-the-data", sentinel_password="of-the-sentinels"
    )
    predis.write(foo__url=sentinels.url, foo__sentinel_password="of-the-sentinels")

    ended = predis("check", "--json")

    assert ended.status == 0, ended.out
    assert len(servers_of(ended.json)) == 2


def test_sentinels_that_are_down_fail(predis: Predis) -> None:
    predis.write(foo__url=f"redis+sentinel://127.0.0.1:{free_port()}/mymaster")

    ended = predis("check", "--json")

    (client,) = ended.json["clients"]
    assert ended.status == 1
    assert (client["kind"], client["servers"]) == ("sentinel", [])
    assert client["error"].startswith("MasterNotFoundError: ")


def test_all_nodes_of_a_cluster_are_asked(predis: Predis, valkey_cluster: Cluster) -> None:
    valkey_cluster.tidy()
    predis.write(foo__url=valkey_cluster.url)

    ended = predis("check", "--json")

    roles = {address: one["role"] for address, one in servers_of(ended.json).items()}
    assert ended.status == 0
    primaries = {node.address for node in valkey_cluster.primaries()}
    assert roles == {
        node.address: "primary" if node.address in primaries else "replica"
        for node in valkey_cluster.nodes
    }


def test_a_cluster_that_is_down_fails(predis: Predis) -> None:
    predis.write(foo__url=f"redis+cluster://127.0.0.1:{free_port()}")

    ended = predis("check")

    assert ended.status == 1
    assert "foo: failed: RedisClusterException: " in ended.out


def test_all_are_asked_at_the_same_time() -> None:
    together = threading.Barrier(5)

    def ask(number: int) -> int:
        together.wait(timeout=30)  # broken unless all five are here at once
        return number

    assert at_once(ask, range(5)) == [0, 1, 2, 3, 4]


def test_nothing_to_ask_is_no_error() -> None:
    assert at_once(str.upper, []) == []


def test_those_who_ask_have_the_callers_context() -> None:
    # Or else OpenTelemetry's instrumentation of redis-py would make spans.
    variable: ContextVar[str] = ContextVar("variable", default="another")
    variable.set("the caller's")

    assert at_once(lambda _: variable.get(), [1, 2]) == ["the caller's"] * 2
