"""predis queue on durable queues: what is in them, dead letters, and what is done with those."""

from __future__ import annotations

import base64
from contextlib import suppress

import pytest
import redis

from pyramid_baseplate_redis import DurableMessageQueue

from ..support.cli import Predis
from ..support.servers import Server
from ..support.topologies import Cluster

BINARY = b"\xff\x00\x1b[31m"


@pytest.fixture
def jobs(predis: Predis, valkey: Server) -> Predis:
    """An application with the durable queue ``jobs``."""
    predis.write(foo__url=valkey.url, jobs__durable="true", jobs__max_attempts="1")
    return predis


@pytest.fixture
def queue(valkey: Server) -> DurableMessageQueue:
    return DurableMessageQueue("jobs", redis.Redis(port=valkey.port), max_attempts=1)


def bury(queue: DurableMessageQueue, body: bytes) -> str:
    """Put a message and have it fail; the dead letter's identifier."""
    queue.put(body)
    with suppress(ZeroDivisionError), queue.receive(timeout=1):
        raise ZeroDivisionError
    return queue.dead_letters()[-1].id


def test_put_and_get(jobs: Predis, queue: DurableMessageQueue) -> None:
    assert jobs("queue", "jobs", "put", "message").status == 0
    assert jobs("queue", "jobs", "get").out == "message\n"
    assert queue.stats().length == 0


def test_a_message_can_be_delayed_and_unique(jobs: Predis, queue: DurableMessageQueue) -> None:
    put = ("queue", "jobs", "put", "message", "--delay", "60", "--unique", "key", "--json")
    first = jobs(*put).json["id"]
    assert jobs(*put).json["id"] == first
    stats = jobs("queue", "jobs", "stats", "--json").json
    assert (stats["length"], stats["delayed"], stats["waiting"]) == (0, 1, 0)
    (shown,) = jobs("queue", "jobs", "peek", "--json").json["messages"]
    assert (shown["id"], shown["text"]) == (first, "message")
    assert shown["due_at"] > shown["enqueued_at"]


def test_get_of_an_empty_queue_fails_with_a_message(jobs: Predis) -> None:
    ended = jobs("queue", "jobs", "get")
    assert (ended.status, ended.err) == (1, "predis: jobs: the queue is empty\n")


def test_peek_shows_messages_and_their_holders(jobs: Predis, queue: DurableMessageQueue) -> None:
    first, second = queue.put_many([BINARY, "second"])
    with queue.receive(timeout=1):
        shown = jobs("queue", "jobs", "peek", "--json").json["messages"]
    assert [(each["id"], each["attempts"]) for each in shown] == [(first, 1), (second, 0)]
    assert [each["consumer"] for each in shown] == [queue.consumer, None]
    assert base64.b64decode(shown[0]["base64"]) == BINARY


def test_peek_receives_nothing(jobs: Predis, queue: DurableMessageQueue) -> None:
    queue.put("message")
    assert "message" in jobs("queue", "jobs", "peek").out
    assert queue.stats().in_flight == 0


def test_peek_shows_so_many(jobs: Predis, queue: DurableMessageQueue) -> None:
    queue.put_many(["1", "2", "3"])
    shown = jobs("queue", "jobs", "peek", "--count", "2", "--json").json["messages"]
    assert [each["text"] for each in shown] == ["1", "2"]


def test_peek_at_an_empty_queue_says_so(jobs: Predis) -> None:
    assert jobs("queue", "jobs", "peek").out == "jobs: the queue is empty\n"


def test_length_is_that_of_the_stream(jobs: Predis, queue: DurableMessageQueue) -> None:
    queue.put_many(["1", "2"])
    assert jobs("queue", "jobs", "length").out == "2\n"


def test_stats_tell_what_is_in_it(jobs: Predis, queue: DurableMessageQueue) -> None:
    bury(queue, b"dead")
    queue.put_many(["1", "2"])
    with queue.receive(timeout=1):
        shown = jobs("queue", "jobs", "stats", "--json").json
        text = jobs("queue", "jobs", "stats").out
    age = shown.pop("oldest_age")
    assert 0 <= age < 60
    assert shown == {
        "queue": "jobs", "length": 2, "in_flight": 1, "delayed": 0, "waiting": 0, "dead": 1,
    }  # fmt: skip
    assert text.strip().split("\n")[0].split() == [
        "length", "in", "flight", "delayed", "waiting", "oldest", "dead"
    ]  # fmt: skip


def test_dead_letters_are_shown(jobs: Predis, queue: DurableMessageQueue) -> None:
    entry_id = bury(queue, BINARY)
    (shown,) = jobs("queue", "jobs", "dead", "--json").json["dead_letters"]
    assert (shown["id"], shown["error"], shown["attempts"]) == (entry_id, "ZeroDivisionError", 1)
    assert base64.b64decode(shown["base64"]) == BINARY
    assert "\\xff\\x00\\x1b[31m" in jobs("queue", "jobs", "dead").out


def test_that_there_are_no_dead_letters_is_reported(jobs: Predis) -> None:
    assert jobs("queue", "jobs", "dead").out == "jobs: there are no dead letters\n"


def test_replay_puts_one_on_the_queue_again(jobs: Predis, queue: DurableMessageQueue) -> None:
    entry_id = bury(queue, b"first")
    bury(queue, b"second")
    ended = jobs("queue", "jobs", "replay", entry_id)
    assert (ended.status, ended.out) == (0, "replayed 1 dead letter of jobs\n")
    assert queue.get(timeout=1) == b"first"
    assert [letter.body for letter in queue.dead_letters()] == [b"second"]


def test_replay_of_all(jobs: Predis, queue: DurableMessageQueue) -> None:
    bury(queue, b"first")
    bury(queue, b"second")
    assert jobs("queue", "jobs", "replay", "--all", "--json").json["replayed"] == 2
    assert queue.stats().length == 2


def test_discard_deletes_one(jobs: Predis, queue: DurableMessageQueue) -> None:
    entry_id = bury(queue, b"first")
    bury(queue, b"second")
    assert jobs("queue", "jobs", "discard", entry_id).out == "discarded 1 dead letter of jobs\n"
    assert [letter.body for letter in queue.dead_letters()] == [b"second"]


def test_discard_of_all_asks_on_a_terminal(jobs: Predis, queue: DurableMessageQueue) -> None:
    bury(queue, b"first")
    bury(queue, b"second")

    ended = jobs("queue", "jobs", "discard", "--all", "--json", stdin=b"y\n", terminal=True)

    assert ended.err == "predis: delete all 2 dead letters of jobs? [y/N] "
    assert ended.json == {"queue": "jobs", "discarded": 2}
    assert queue.stats().dead == 0


@pytest.mark.parametrize("answer", [b"\n", b"n\n", b"", b"yesterday\n"])
def test_any_answer_but_yes_deletes_nothing(
    jobs: Predis, queue: DurableMessageQueue, answer: bytes
) -> None:
    bury(queue, b"first")

    ended = jobs("queue", "jobs", "discard", "--all", stdin=answer, terminal=True)

    assert (ended.status, ended.out, queue.stats().dead) == (1, "", 1)
    assert ended.err.endswith("predis: jobs: nothing was deleted\n")


def test_discard_of_all_without_a_terminal_needs_yes(
    jobs: Predis, queue: DurableMessageQueue
) -> None:
    bury(queue, b"first")

    ended = jobs("queue", "jobs", "discard", "--all", stdin=b"y\n")

    assert (ended.status, queue.stats().dead) == (2, 1)
    assert "Write --yes as well" in ended.err
    assert jobs("queue", "jobs", "discard", "--all", "--yes", stdin=b"").status == 0
    assert queue.stats().dead == 0


@pytest.mark.parametrize("action", ["replay", "discard"])
def test_nothing_is_done_to_all_by_mistake(
    jobs: Predis, queue: DurableMessageQueue, action: str
) -> None:
    bury(queue, b"first")
    ended = jobs("queue", "jobs", action)
    assert ended.status == 2
    assert ended.err == "predis: write either the identifiers of dead letters or --all\n"
    assert queue.stats().dead == 1


def test_what_isnt_there_any_more_is_reported(jobs: Predis, queue: DurableMessageQueue) -> None:
    entry_id = bury(queue, b"first")
    ended = jobs("queue", "jobs", "discard", entry_id, "1-1")
    assert (ended.status, ended.err) == (1, "predis: jobs: 1 of them does not exist\n")
    assert queue.stats().dead == 0


def test_what_is_no_identifier_is_refused(jobs: Predis) -> None:
    ended = jobs("queue", "jobs", "discard", "first")
    assert (ended.status, ended.err) == (
        2,
        "predis: first: is not the identifier of a dead letter. predis queue ... dead lists them\n",
    )


def test_options_of_the_ini_file_may_follow_identifiers(
    jobs: Predis, queue: DurableMessageQueue
) -> None:
    entry_id = bury(queue, b"first")
    assert jobs("queue", "jobs", "discard", entry_id, "name=value").status == 0


@pytest.mark.parametrize("arguments", [["put", "message"], ["get"], ["stats"]])
def test_a_declared_durable_queue_is_not_taken_for_a_list_of_a_client(
    jobs: Predis, queue: DurableMessageQueue, arguments: list[str]
) -> None:
    ended = jobs("queue", "jobs", *arguments, "--client", "foo")

    assert ended.status == 2
    assert ended.err == (
        "predis: jobs: the application declares a durable queue of this name on the client foo, "
        "and --client foo would use another one. Leave out --client\n"
    )
    assert queue.client.exists("jobs") == 0


@pytest.mark.parametrize("action", ["stats", "dead", "replay", "discard"])
def test_a_queue_that_isnt_durable_has_none_of_it(
    predis: Predis, valkey: Server, action: str
) -> None:
    predis.write(foo__url=valkey.url)
    ended = predis("queue", "jobs", action)
    assert (ended.status, ended.err) == (
        2,
        "predis: jobs: is not a durable queue, which this command needs\n",
    )


def test_a_queue_in_a_cluster(predis: Predis, cluster: Cluster) -> None:
    predis.write(foo__url=cluster.url, jobs__durable="true")
    predis("queue", "jobs", "put", "message")
    assert predis("queue", "jobs", "peek", "--json").json["messages"][0]["text"] == "message"
    assert predis("queue", "jobs", "stats", "--json").json["length"] == 1
