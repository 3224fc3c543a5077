"""predis top: what servers do, refreshed in place."""

from __future__ import annotations

import os
import pty
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import redis
from redis.cluster import RedisCluster

from pyramid_baseplate_redis import RedisClient
from pyramid_baseplate_redis.cli.output import make_console
from pyramid_baseplate_redis.cli.top_sampling import CommandRate, Sample, Watch, rates, total
from pyramid_baseplate_redis.cli.top_view import as_json, view

from ..support.cli import PREDIS, ROOT, Predis
from ..support.servers import Server, free_port, running_server, wait_until
from ..support.topologies import Cluster, SentinelSet

ONCE = ("--count", "1", "--interval", "0.1", "--json")


@contextmanager
def busy(work: Callable[[], Any]) -> Iterator[None]:
    """Do something again and again, in another thread."""
    stopping = threading.Event()
    working = threading.Event()

    def go_on() -> None:
        while not stopping.wait(0.001):
            work()
            working.set()

    thread = threading.Thread(target=go_on)
    thread.start()
    try:
        wait_until(working.is_set)
        yield
    finally:
        stopping.set()
        thread.join()


def watch(url: str, **settings: str) -> Watch:
    own = {f"foo.{key}": value for key, value in settings.items()}
    return Watch("foo", RedisClient().parse("foo", {"foo.url": url, **own}))


def commands(refresh: Any) -> dict[str, Any]:
    return {command["command"]: command for command in refresh["commands"]}


def test_commands_are_counted_while_they_are_executed(predis: Predis, server: Server) -> None:
    predis.write(foo__url=server.url)
    with redis.Redis(port=server.port) as client, busy(lambda: client.get("key")):
        ended = predis("top", "foo", "--count", "2", "--interval", "0.5", "--json")

    assert ended.status == 0
    assert len(ended.lines) == 2
    for refresh in ended.lines:
        assert commands(refresh)["get"]["per_second"] > 1
        assert refresh["commands_per_second"] >= commands(refresh)["get"]["per_second"]
        (of_server,) = refresh["servers"]
        assert of_server["round_trip"] > 0
        assert of_server["used_memory"] > 0
        assert of_server["connected_clients"] >= 2
        assert of_server["blocked_clients"] == 0


@pytest.mark.parametrize("options", [[], ["--json"]], ids=["text", "json"])
def test_a_server_that_is_down_fails(predis: Predis, options: list[str]) -> None:
    predis.write(foo__url=f"redis://127.0.0.1:{free_port()}")

    ended = predis("top", "foo", "--count", "1", "--interval", "0.1", *options)

    assert ended.status == 1
    assert "Error 111" in ended.out


def test_a_wrong_password_fails(predis: Predis, tmp_path: Path) -> None:
    with running_server("valkey", tmp_path, "--requirepass", "right") as server:
        predis.write(foo__url=server.url, foo__password="wrong-QZX")

        ended = predis("top", "foo", *ONCE)

    assert ended.status == 1
    assert "wrong-QZX" not in ended.out


def test_sentinels_that_are_down_fail(predis: Predis) -> None:
    predis.write(foo__url=f"redis+sentinel://127.0.0.1:{free_port()}/mymaster")

    assert predis("top", "foo", *ONCE).status == 1


def test_percentiles_are_the_servers(predis: Predis, valkey: Server) -> None:
    predis.write(foo__url=valkey.url)
    with redis.Redis(port=valkey.port) as client, busy(lambda: client.get("key")):
        (refresh,) = predis("top", "foo", *ONCE).lines

    percentiles = commands(refresh)["get"]["percentiles_microseconds"]
    assert list(percentiles) == ["p50", "p99", "p99.9"]
    assert 0 < percentiles["p50"] <= percentiles["p99"] <= percentiles["p99.9"]


def test_what_top_itself_asks_is_not_counted(predis: Predis, server: Server) -> None:
    predis.write(foo__url=server.url)

    ended = predis("top", "foo", "--count", "3", "--interval", "0.1", "--json")

    assert [refresh["commands"] for refresh in ended.lines] == [[], [], []]
    assert [refresh["commands_per_second"] for refresh in ended.lines] == [0, 0, 0]


def test_the_pool_is_the_connections_of_the_clients_name(predis: Predis, valkey: Server) -> None:
    predis.write(foo__url=valkey.url, foo__client_name="web", foo__max_connections="7")
    others = [redis.Redis(port=valkey.port, client_name=name) for name in ("web", "web", "jobs")]
    for client in others:
        client.ping()

    (refresh,) = predis("top", "foo", *ONCE).lines

    assert refresh["pool"] == {"client_name": "web", "connections": 2, "max_connections": 7}
    for client in others:
        client.close()


def test_without_a_name_the_pool_is_all_connections_but_its_own(
    predis: Predis, tmp_path: Path
) -> None:
    with running_server("valkey", tmp_path) as server, redis.Redis(port=server.port) as client:
        client.ping()
        predis.write(foo__url=server.url)

        (refresh,) = predis("top", "foo", *ONCE).lines

    assert refresh["pool"]["connections"] == 1


def test_a_user_who_may_not_list_clients_sees_the_rest(predis: Predis, tmp_path: Path) -> None:
    with running_server("valkey", tmp_path) as server, redis.Redis(port=server.port) as client:
        client.execute_command("ACL SETUSER default -client|list")
        predis.write(foo__url=server.url)

        (refresh,) = predis("top", "foo", *ONCE).lines

    assert refresh["pool"]["connections"] is None
    assert refresh["servers"][0]["error"] is None


def test_a_server_that_goes_away_is_reported_until_it_is_back(tmp_path: Path) -> None:
    with running_server("valkey", tmp_path) as server:
        seen = watch(server.url)
        seen.look()
        assert seen.look().servers[0].error is None

        server.kill()
        away = seen.look()
        assert away.servers[0].error is not None
        assert away.per_second is None

        server.restart()
        back = seen.look()
        assert back.servers[0].error is None
        assert back.per_second is None  # it counts anew, so there is nothing to compare with
        assert seen.look().per_second is not None


def test_a_person_reads_that_a_server_is_away(tmp_path: Path) -> None:
    with running_server("valkey", tmp_path) as server:
        seen = watch(server.url)
        server.kill()
        text = shown(seen, tmp_path)

    assert "away" in text
    assert "ConnectionError: foo: Error 111" in text


def shown(seen: Watch, directory: Path, height: int | None = None) -> str:
    with open(directory / "shown", "w+") as stream:
        make_console(stream).print(view(seen.look(), height))
        stream.seek(0)
        return stream.read()


def test_commands_that_do_not_fit_the_terminal_are_reported_by_their_number(
    valkey: Server, tmp_path: Path
) -> None:
    seen = watch(valkey.url)
    with redis.Redis(port=valkey.port) as client:
        client.ping()
        seen.look()
        for name in ("key", "other"):
            client.set(name, "value")
            client.get(name)
            client.exists(name)
            client.strlen(name)
            client.delete(name)

    text = shown(seen, tmp_path, height=10)

    assert "and 2 other commands" in text


def test_a_view_is_no_higher_than_the_terminal(valkey: Server, tmp_path: Path) -> None:
    seen = watch(valkey.url)
    with redis.Redis(port=valkey.port) as client:
        client.ping()
        seen.look()
        client.set("key", "value")
        for read in (client.get, client.exists, client.strlen, client.ttl, client.type):
            read("key")
        for _ in range(3):
            client.lpush("list", "value")
        client.lpop("list")
        client.llen("list")
        client.lrange("list", 0, 1)
        client.delete("list")

    assert len(shown(seen, tmp_path, height=22).splitlines()) < 22


def test_each_node_of_a_cluster_has_a_row_and_the_sum_is_that_of_the_primaries(
    valkey_cluster: Cluster,
) -> None:
    valkey_cluster.tidy()
    seen = watch(valkey_cluster.url)
    seen.look()
    with RedisCluster.from_url(f"redis://{valkey_cluster.nodes[0].address}") as client:
        for number in range(60):
            client.set(f"key{number}", "value")

    refresh = seen.look()

    found = as_json(refresh)
    primaries = {node.address for node in valkey_cluster.primaries()}
    assert {one["address"] for one in found["servers"]} == {
        node.address for node in valkey_cluster.nodes
    }
    assert {one.address for one in refresh.counted} == primaries
    each = [
        commands(one)["set"]["per_second"]
        for one in found["servers"]
        if one["address"] in primaries
    ]
    assert len(each) == 3
    assert commands(found)["set"]["per_second"] == pytest.approx(sum(each))


def test_a_node_that_is_away_does_not_hide_the_others(valkey_cluster: Cluster) -> None:
    valkey_cluster.tidy()
    seen = watch(valkey_cluster.url)
    seen.look()
    replica = valkey_cluster.replicas()[0]
    replica.kill()
    try:
        refresh = seen.look()
    finally:
        valkey_cluster.tidy()

    assert [one.address for one in refresh.servers if one.error] == [replica.address]
    assert refresh.per_second is not None


@pytest.mark.slow("starts a Cluster or Sentinel set of its own, or waits until a node is given up")
def test_a_node_that_the_cluster_has_given_up_is_reported_until_it_is_back(
    valkey_cluster: Cluster,
) -> None:
    valkey_cluster.tidy()
    seen = watch(valkey_cluster.url)
    seen.look()
    replica = valkey_cluster.replicas()[0]

    def errors() -> dict[str, str]:
        return {one.address: one.error for one in seen.look().servers if one.error}

    replica.kill()
    try:
        valkey_cluster.wait_until(
            lambda: errors() == {replica.address: "isn't named any more"}, "given up"
        )
    finally:
        valkey_cluster.tidy()
    valkey_cluster.wait_until(lambda: not errors(), "seen again")


@pytest.mark.slow("starts a Cluster or Sentinel set of its own, or waits until a node is given up")
def test_behind_sentinel_the_primary_and_its_replica_have_a_row(
    valkey_sentinels: SentinelSet,
) -> None:
    valkey_sentinels.tidy()
    seen = watch(valkey_sentinels.url)

    refresh = seen.look()

    roles = {one.address: one.sample.role for one in refresh.servers if one.sample}
    primary = valkey_sentinels.primary().address
    assert roles == {primary: "primary", valkey_sentinels.replica().address: "replica"}
    assert [one.address for one in refresh.counted] == [primary]


def test_behind_sentinel_a_reading_clients_commands_are_the_replicas(
    valkey_sentinels: SentinelSet,
) -> None:
    valkey_sentinels.tidy()

    refresh = watch(valkey_sentinels.url, read_from="replica").look()

    assert [one.address for one in refresh.counted] == [valkey_sentinels.replica().address]


def test_sentinels_that_are_away_are_reported() -> None:
    refresh = watch("redis+sentinel://127.0.0.1:1/mymaster").look()

    assert refresh.error is not None
    assert refresh.error.startswith("MasterNotFoundError: ")
    assert as_json(refresh)["commands_per_second"] is None


def sample(at: float, run_id: str = "a", **calls: tuple[int, int]) -> Sample:
    figures = {
        f"cmdstat_{name}": {"calls": count, "usec": usec} for name, (count, usec) in calls.items()
    }
    return Sample(at, 0.001, {"run_id": run_id, **figures}, 0, ())


def test_a_rate_is_what_was_executed_between_two_samples() -> None:
    before, after = sample(10, get=(5, 50)), sample(12, get=(9, 90), set=(2, 60))

    assert rates(before, after) == [
        CommandRate("get", 2.0, 10.0, {}),
        CommandRate("set", 1.0, 30.0, {}),
    ]


@pytest.mark.parametrize(
    "after",
    [sample(12, "b", get=(9, 90)), sample(12, get=(4, 40))],
    ids=["restarted", "CONFIG RESETSTAT"],
)
def test_figures_that_begin_anew_give_no_rate(after: Sample) -> None:
    assert rates(sample(10, get=(5, 50)), after) is None


def test_the_first_sample_gives_no_rate() -> None:
    assert rates(None, sample(10, get=(5, 50))) is None


def test_servers_together_have_the_worst_percentiles_and_the_mean_of_all() -> None:
    one = [CommandRate("get", 30.0, 10.0, {"p50": 9.0, "p99": 20.0})]
    other = [CommandRate("get", 10.0, 30.0, {"p50": 12.0, "p99": 15.0})]

    assert total([one, other]) == [CommandRate("get", 40.0, 15.0, {"p50": 12.0, "p99": 20.0})]


@contextmanager
def in_terminal(*arguments: str, **environ: str) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """``predis`` in a pseudo-terminal of 24 lines; its process, and where to read."""
    ours, theirs = pty.openpty()
    # A job in a shell's background, such as these tests may be, ignores interrupts, as do its
    # children.
    start = (
        "import os, signal, sys; signal.signal(signal.SIGINT, signal.SIG_DFL); "
        "os.execv(sys.argv[1], sys.argv[1:])"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", start, str(PREDIS), *arguments],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
        env={
            **os.environ, "PYTHONPATH": str(ROOT), "TERM": "xterm-256color", "LINES": "24",
            "COLUMNS": "100", **environ,
        },
    )  # fmt: skip
    os.close(theirs)
    try:
        yield process, ours
    finally:
        process.kill()
        process.wait()
        os.close(ours)


def read_until(descriptor: int, last: str | None = None, seconds: float = 60) -> str:
    """What a terminal shows until something is shown, or to its end."""
    read = b""
    deadline = time.monotonic() + seconds
    with suppress(OSError):  # what Linux has for the end
        while last is None or last not in read.decode(errors="replace"):
            remaining = max(0.0, deadline - time.monotonic())
            assert select.select([descriptor], [], [], remaining)[0], read
            chunk = os.read(descriptor, 65_536)
            if not chunk:
                break
            read += chunk
    return read.decode()


def test_a_terminal_is_refreshed_in_place(predis: Predis, valkey: Server) -> None:
    predis.write(foo__url=valkey.url)
    options = ("--count", "3", "--interval", "0.1")

    with in_terminal("top", str(predis.ini), "foo", *options) as (process, terminal):
        text = read_until(terminal)
        assert process.wait(timeout=30) == 0, text

    assert text.count(" commands/s\x1b[0m") >= 3
    assert "\x1b[1A\x1b[2K" in text  # up a line, and clear it
    assert text.rindex("\x1b[?25h") > text.rindex("\x1b[?25l")  # the cursor is back


def test_no_color_leaves_colours_out(predis: Predis, valkey: Server) -> None:
    predis.write(foo__url=valkey.url)

    def check(**environ: str) -> str:
        with in_terminal("check", str(predis.ini), **environ) as (_, terminal):
            return read_until(terminal)

    assert "\x1b[1;32mok" in check()
    assert "\x1b[1mok" in check(NO_COLOR="1")


def test_an_interrupt_ends_it_with_no_traceback(predis: Predis, valkey: Server) -> None:
    predis.write(foo__url=valkey.url)

    with in_terminal("top", str(predis.ini), "foo", "--interval", "0.1") as (process, terminal):
        text = read_until(terminal, " commands/s\x1b[0m")
        process.send_signal(signal.SIGINT)
        text += read_until(terminal)
        assert process.wait(timeout=30) == 0, text

    assert "Traceback" not in text
    assert text.rstrip().endswith("\x1b[?25h")


def test_a_reader_who_has_enough_ends_it_with_no_traceback(predis: Predis, valkey: Server) -> None:
    predis.write(foo__url=valkey.url)
    command = [str(PREDIS), "top", str(predis.ini), "foo", "--interval", "0.1", "--json"]

    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        errors = process.stderr.read().decode()
        assert process.wait(timeout=30) == 1

    assert errors == ""
