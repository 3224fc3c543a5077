"""predis queue and predis hotkeys: messages and keys, whatever their bytes are."""

from __future__ import annotations

import base64
from typing import Any

import pytest
import redis

from pyramid_baseplate_redis.cli.application import loaded
from pyramid_baseplate_redis.telemetry.hot_keys.commands import SETS
from pyramid_baseplate_redis.telemetry.hot_keys.tracker import HotKeyTracker

from ..support.cli import Predis
from ..support.servers import Server
from ..support.topologies import Cluster

BINARY = b"\xff\x00\x1b[31m"


@pytest.fixture
def plain(valkey: Server) -> redis.Redis:
    return redis.Redis(port=valkey.port)


@pytest.fixture
def jobs(predis: Predis, valkey: Server) -> Predis:
    """An application with the queue ``jobs``."""
    predis.write(foo__url=valkey.url)
    return predis


def test_put_takes_the_message_from_its_argument(jobs: Predis, plain: redis.Redis) -> None:
    ended = jobs("queue", "jobs", "put", "a=b")

    assert ended.status == 0, ended.err
    assert plain.lrange("jobs", 0, -1) == [b"a=b"]


@pytest.mark.parametrize("arguments", [[], ["-"]])
def test_put_takes_standard_input_as_it_is(
    jobs: Predis, plain: redis.Redis, arguments: list[str]
) -> None:
    jobs("queue", "jobs", "put", *arguments, stdin=BINARY + b"\n")

    assert plain.lrange("jobs", 0, -1) == [BINARY + b"\n"]


def test_put_on_a_terminal_says_that_it_reads_standard_input(
    jobs: Predis, plain: redis.Redis
) -> None:
    ended = jobs("queue", "jobs", "put", "--json", stdin=b"typed", terminal=True)

    assert ended.err == "predis: reading the message from standard input, until Ctrl+D\n"
    assert ended.json == {"queue": "jobs", "bytes": 5}
    assert plain.lrange("jobs", 0, -1) == [b"typed"]


def test_put_from_a_pipe_says_nothing(jobs: Predis) -> None:
    assert jobs("queue", "jobs", "put", stdin=b"piped").err == ""


@pytest.mark.parametrize("arguments", [[], [""]], ids=["standard input", "argument"])
def test_an_empty_message_is_refused_unless_it_is_allowed(
    jobs: Predis, plain: redis.Redis, arguments: list[str]
) -> None:
    ended = jobs("queue", "jobs", "put", *arguments, stdin=b"")

    assert (ended.status, plain.exists("jobs")) == (2, 0)
    assert ended.err == (
        "predis: jobs: the message is empty. Write one, or --allow-empty to put it\n"
    )
    assert jobs("queue", "jobs", "put", "--allow-empty", *arguments, stdin=b"").status == 0
    assert plain.lrange("jobs", 0, -1) == [b""]


def test_get_takes_the_oldest_message_off(jobs: Predis, plain: redis.Redis) -> None:
    plain.rpush("jobs", "first", "second")

    ended = jobs("queue", "jobs", "get")

    assert (ended.status, ended.out) == (0, "first\n")
    assert plain.lrange("jobs", 0, -1) == [b"second"]


@pytest.mark.parametrize("options", [[], ["--timeout", "0.1"]])
def test_get_of_an_empty_queue_fails_with_a_message(jobs: Predis, options: list[str]) -> None:
    ended = jobs("queue", "jobs", "get", *options)

    assert (ended.status, ended.out) == (1, "")
    assert ended.err == "predis: jobs: the queue is empty\n"


def test_get_shows_bytes_safely(jobs: Predis, plain: redis.Redis) -> None:
    plain.rpush("jobs", BINARY)

    assert jobs("queue", "jobs", "get").out == "\\xff\\x00\\x1b[31m\n"


def test_get_for_machines_loses_no_byte(jobs: Predis, plain: redis.Redis) -> None:
    plain.rpush("jobs", BINARY)

    found = jobs("queue", "jobs", "get", "--json").json

    assert base64.b64decode(found["base64"]) == BINARY


def test_peek_shows_the_next_messages_and_leaves_them(jobs: Predis, plain: redis.Redis) -> None:
    plain.rpush("jobs", "first", "second", "third")

    ended = jobs("queue", "jobs", "peek", "--count", "2", "--json")

    assert [message["text"] for message in ended.json["messages"]] == ["first", "second"]
    assert plain.llen("jobs") == 3


def test_peek_reads_bytes_where_the_client_decodes_replies(
    predis: Predis, valkey: Server, plain: redis.Redis
) -> None:
    predis.write(foo__url=valkey.url, foo__decode_responses="true")
    plain.rpush("jobs", BINARY)

    (message,) = predis("queue", "jobs", "peek", "--json").json["messages"]

    assert base64.b64decode(message["base64"]) == BINARY


def test_peek_of_an_empty_queue_says_so(jobs: Predis) -> None:
    assert jobs("queue", "jobs", "peek").out == "jobs: the queue is empty\n"


def test_length_is_a_number(jobs: Predis, plain: redis.Redis) -> None:
    plain.rpush("jobs", "first", "second")

    assert jobs("queue", "jobs", "length").out == "2\n"
    assert jobs("queue", "jobs", "length", "--json").json == {"queue": "jobs", "length": 2}


def test_a_queue_that_is_not_declared_is_reached_through_its_client(
    jobs: Predis, plain: redis.Redis
) -> None:
    plain.rpush("others", "text")

    assert jobs("queue", "others", "get", "--client", "foo").out == "text\n"


def test_a_queue_that_is_not_declared_is_an_error_that_names_the_others(jobs: Predis) -> None:
    ended = jobs("queue", "others", "length")

    assert ended.status == 2
    assert "there is no message queue 'others'; configured: jobs; --client" in ended.err


def test_the_client_of_a_declared_queue_may_be_named(jobs: Predis, plain: redis.Redis) -> None:
    assert jobs("queue", "jobs", "put", "text", "--client", "foo").status == 0
    assert plain.lrange("jobs", 0, -1) == [b"text"]


def test_another_client_of_a_declared_queue_is_refused(
    predis: Predis, valkey: Server, plain: redis.Redis
) -> None:
    predis.write(foo__url=valkey.url, bar__url=valkey.url)

    ended = predis("queue", "jobs", "put", "text", "--client", "bar")

    assert ended.status == 2
    assert ended.err == (
        "predis: jobs: the application declares a queue of this name on the client foo, and "
        "--client bar would use another one. Leave out --client\n"
    )
    assert plain.exists("jobs") == 0


@pytest.fixture
def sampled(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The commands whose keys are sampled as hot keys."""
    found: list[Any] = []
    monkeypatch.setattr(HotKeyTracker, "_sampled", lambda self, roll, args: found.append(args))
    return found


SAMPLED = {
    "foo__track_key_reads_sample_rate": "100%%",
    "foo__track_key_writes_sample_rate": "100%%",
}


def test_what_predis_asks_is_not_sampled_as_hot_keys(
    predis: Predis, valkey: Server, sampled: list[Any]
) -> None:
    predis.write(foo__url=valkey.url, **SAMPLED)

    for arguments in (["put", "text"], ["peek"], ["length"], ["get"]):
        assert predis("queue", "jobs", *arguments).status == 0
    assert predis("queue", "others", "length", "--client", "foo").status == 0
    assert predis("hotkeys", "foo").status == 0

    assert sampled == []


def test_the_commands_of_a_worker_are_sampled_as_hot_keys(
    predis: Predis, valkey: Server, sampled: list[Any]
) -> None:
    predis.write(foo__url=valkey.url, **SAMPLED)

    with loaded(str(predis.ini), samples_keys=True) as application:
        application.client("foo").get("key")

    assert sampled == [("GET", "key")]


def test_a_queue_of_a_cluster(predis: Predis, valkey_cluster: Cluster) -> None:
    valkey_cluster.tidy()
    predis.write(foo__url=valkey_cluster.url)

    predis("queue", "jobs", "put", "text")

    assert predis("queue", "jobs", "length").out == "1\n"
    assert predis("queue", "jobs", "peek", "--json").json["messages"][0]["text"] == "text"
    assert predis("queue", "jobs", "get").out == "text\n"


@pytest.mark.parametrize("arguments", [["get", "--timeout", "-1"], ["peek", "--count", "0"]])
def test_a_number_that_makes_no_sense_is_refused(jobs: Predis, arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        jobs("queue", "jobs", *arguments)
    assert ended.value.code == 2


def test_hotkeys_are_shown_with_the_most_used_first(jobs: Predis, plain: redis.Redis) -> None:
    plain.zadd(SETS["reads"], {"rare": 1, "often": 7, BINARY: 3})
    plain.zadd(SETS["writes"], {"written": 2})

    lines = jobs("hotkeys", "foo").out.splitlines()

    rows = [line.split() for line in lines if line.split()[:1] in (["reads"], ["writes"])]
    assert rows == [
        ["reads", "7", "often"],
        ["reads", "3", "\\xff\\x00\\x1b[31m"],
        ["reads", "1", "rare"],
        ["writes", "2", "written"],
    ]


def test_hotkeys_for_machines_are_whole(jobs: Predis, plain: redis.Redis) -> None:
    plain.zadd(SETS["reads"], {BINARY: 3, "second": 2})

    found = jobs("hotkeys", "foo", "--kind", "reads", "--count", "1", "--json").json

    encoded = base64.b64encode(BINARY).decode()
    assert found == {
        "client": "foo",
        "reads": [{"text": None, "base64": encoded, "samples": 3.0}],
    }


def test_without_samples_it_says_which_settings_take_them(jobs: Predis) -> None:
    assert "foo.track_key_reads_sample_rate" in jobs("hotkeys", "foo").out
