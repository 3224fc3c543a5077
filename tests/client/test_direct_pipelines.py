"""A pipeline is sent directly if redis-py would do no more for its commands."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import redis
from redis.client import EMPTY_RESPONSE, NEVER_DECODE, Pipeline

from pyramid_baseplate_redis.client.direct_pipeline import (
    execute_pipeline,
    execute_transaction,
    is_direct,
)

GET, STRLEN = (("GET", "a"), {}), (("STRLEN", "a"), {})
ERROR = redis.ResponseError("WRONGTYPE not a list")


class Connection:
    """A connection that sends commands directly and has these replies."""

    is_direct = True
    has_current_fieldsets = True

    def __init__(self, *replies: Any) -> None:
        self.replies = list(replies)
        self.sent: list[Any] = []
        self.disconnected = 0

    def ask_all(self, commands: Any, *states: Any) -> list[Any]:
        self.sent = list(commands)
        return self.replies

    def disconnect(self) -> None:
        self.disconnected += 1


@pytest.fixture
def pipeline() -> Pipeline:
    return redis.Redis().pipeline()


# Whether it is sent directly


@pytest.mark.parametrize(
    ("commands", "expected"),
    [
        ([GET], True),
        ([GET, (("GET", "a"), {"keys": ["a"]})], True),
        ([(("GET", "SUBSCRIBE"), {})], True),
        ([(("PING",), {})], True),
        ([(("SUBSCRIBE", "GET"), {})], False),
        ([GET, (("BLPOP", "a", 1), {})], False),
        ([(("GET", "a"), {NEVER_DECODE: True})], False),
        ([GET, (("GET", "a"), {EMPTY_RESPONSE: []})], False),
        ([(("GET", "a"), {NEVER_DECODE: True, EMPTY_RESPONSE: []})], False),
        ([(("SUBSCRIBE", "a"), {"keys": ["a"]})], False),
    ],
    ids=str,
)
def test_the_commands_and_their_options_decide(
    pipeline: Pipeline, commands: Any, expected: bool
) -> None:
    assert is_direct(pipeline, Connection(), commands) is expected


@pytest.mark.parametrize("name", ["is_direct", "has_current_fieldsets"])
def test_the_connection_decides(pipeline: Pipeline, name: str) -> None:
    connection = Connection()
    setattr(connection, name, False)
    assert not is_direct(pipeline, connection, [GET])


def test_a_connection_of_redis_py_sends_no_pipeline_directly(pipeline: Pipeline) -> None:
    assert not is_direct(pipeline, SimpleNamespace(has_current_fieldsets=True), [GET])


def test_a_pipeline_that_parses_replies_itself_is_left_to_redis_py() -> None:
    class Own(Pipeline):
        def parse_response(self, *args: Any, **options: Any) -> Any:
            raise NotImplementedError

    client = redis.Redis()
    own = Own(client.connection_pool, client.response_callbacks, True, None)
    assert not is_direct(own, Connection(), [GET])


# Replies


def test_replies_become_results_and_errors_stay_in_their_place(pipeline: Pipeline) -> None:
    pipeline.response_callbacks["GET"] = lambda reply, **options: (reply, options)
    commands: Any = [(("GET", "a"), {"keys": ["a"], "more": 1}), GET, (("ECHO", "a"), {}), GET]
    replies = Connection(b"1", ERROR, b"3", b"4")
    assert execute_pipeline(pipeline, replies, commands, False) == [
        (b"1", {"more": 1}), ERROR, b"3", (b"4", {}),
    ]  # fmt: skip


def test_an_error_is_raised_if_it_is_wanted(pipeline: Pipeline) -> None:
    with pytest.raises(redis.ResponseError, match=r"Command # 2 \(GET a\) of pipeline"):
        execute_pipeline(pipeline, Connection(b"1", redis.ResponseError("no")), [GET, GET], True)


def test_an_error_of_a_callback_takes_the_place_of_its_result(pipeline: Pipeline) -> None:
    def refuse(reply: Any, **options: Any) -> None:
        raise ERROR

    pipeline.response_callbacks["GET"] = refuse
    assert execute_pipeline(pipeline, Connection(b"1"), [GET], False) == [ERROR]


# Transactions


def test_a_transaction_is_sent_and_its_results_returned(pipeline: Pipeline) -> None:
    pipeline.response_callbacks["STRLEN"] = str
    connection = Connection(b"OK", b"QUEUED", b"QUEUED", [b"1", 2])
    pipeline.watching = True
    assert execute_transaction(pipeline, connection, [GET, STRLEN], True) == [b"1", "2"]
    assert connection.sent == [("MULTI",), ("GET", "a"), ("STRLEN", "a"), ("EXEC",)]
    assert pipeline.watching is False


def test_an_error_of_a_queued_command_is_raised_if_the_transaction_is_aborted(
    pipeline: Pipeline,
) -> None:
    first, second = redis.ResponseError("unknown"), redis.ResponseError("unknown, too")
    aborted = redis.exceptions.ExecAbortError("EXECABORT")
    connection = Connection(b"OK", b"QUEUED", first, second, aborted)
    with pytest.raises(redis.ResponseError, match=r"Command # 2 \(GET a\).*unknown$"):
        execute_transaction(pipeline, connection, [GET, GET, GET], False)


def test_an_abortion_without_another_error_is_raised(pipeline: Pipeline) -> None:
    connection = Connection(b"OK", b"QUEUED", redis.exceptions.ExecAbortError("EXECABORT"))
    with pytest.raises(redis.exceptions.ExecAbortError):
        execute_transaction(pipeline, connection, [GET], False)


def test_an_error_of_multi_comes_first(pipeline: Pipeline) -> None:
    refused = redis.ResponseError("MULTI is refused")
    connection = Connection(refused, ERROR, redis.exceptions.ExecAbortError("EXECABORT"))
    with pytest.raises(redis.ResponseError, match="MULTI is refused"):
        execute_transaction(pipeline, connection, [GET], False)


def test_another_error_of_exec_is_raised(pipeline: Pipeline) -> None:
    connection = Connection(b"OK", b"QUEUED", redis.ReadOnlyError("READONLY"))
    with pytest.raises(redis.ReadOnlyError):
        execute_transaction(pipeline, connection, [GET], False)


def test_the_error_of_a_command_that_was_not_queued_is_among_the_results(
    pipeline: Pipeline,
) -> None:
    refused = redis.ResponseError("refused")
    connection = Connection(b"OK", b"QUEUED", refused, b"QUEUED", [b"1", b"3"])
    assert execute_transaction(pipeline, connection, [GET] * 3, False) == [b"1", refused, b"3"]


def test_a_changed_key_ends_the_watch_and_is_a_watch_error(pipeline: Pipeline) -> None:
    pipeline.watching = True
    with pytest.raises(redis.WatchError, match="Watched variable changed"):
        execute_transaction(pipeline, Connection(b"OK", b"QUEUED", None), [GET], False)
    assert pipeline.watching is False


@pytest.mark.parametrize("results", [[], [b"1", b"2"]])
def test_a_wrong_number_of_results_closes_the_connection(
    pipeline: Pipeline, results: list[bytes]
) -> None:
    connection = Connection(b"OK", b"QUEUED", results)
    with pytest.raises(redis.ResponseError, match="Wrong number of response items"):
        execute_transaction(pipeline, connection, [GET], False)
    assert connection.disconnected == 1


def test_an_error_among_the_results_is_raised_if_it_is_wanted(pipeline: Pipeline) -> None:
    connection = Connection(b"OK", b"QUEUED", b"QUEUED", [b"1", redis.ResponseError("no")])
    with pytest.raises(redis.ResponseError, match=r"Command # 2 \(GET a\) of pipeline"):
        execute_transaction(pipeline, connection, [GET, GET], True)
