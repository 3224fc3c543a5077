"""The end of an operation's span: its status, its attributes, and failures of the span itself."""

from __future__ import annotations

from typing import Any
from unittest.mock import Mock, call

import pytest
import redis
from opentelemetry.trace import StatusCode

from pyramid_baseplate_redis.telemetry import span_outcomes
from pyramid_baseplate_redis.telemetry.call_details import CallDetails

WRONG_TYPE = redis.ResponseError("WRONGTYPE not a list")


@pytest.fixture
def logged(monkeypatch: pytest.MonkeyPatch) -> Mock:
    mock = Mock()
    monkeypatch.setattr(span_outcomes, "log_once", mock)
    return mock


def details(**values: Any) -> CallDetails:
    notes = CallDetails()
    for name, value in values.items():
        setattr(notes, name, value)
    return notes


def attributes_of(span: Mock) -> dict[str, Any]:
    found = dict(each.args for each in span.set_attribute.mock_calls)
    for each in span.set_attributes.mock_calls:
        found.update(each.args[0])
    return found


# Success


def test_a_span_without_details_just_ends() -> None:
    span = Mock()
    span_outcomes.end(span)
    assert span.mock_calls == [call.end()]


@pytest.mark.parametrize(
    ("notes", "attributes"),
    [
        ({}, {}),
        ({"waited": 0.5}, {"pyramid_baseplate_redis.connection.wait_time": 0.5}),
        ({"redirections": 2}, {"redis.client.operation.redirections": 2}),
        ({"retries": 3}, {"redis.client.operation.retry_attempts": 3}),
        ({"peer": ("10.0.0.1", 1)},
         {"network.peer.address": "10.0.0.1", "network.peer.port": 1}),
        ({"server": ("a", 2), "servers": 1, "peer": ("10.0.0.1", 1)},
         {"server.address": "a", "server.port": 2,
          "network.peer.address": "10.0.0.1", "network.peer.port": 1}),
        ({"server": ("a", 2), "servers": 2}, {}),
        ({"server": ("a", 2), "servers": 1, "server_is_told": True}, {}),
        ({"peer": ("10.0.0.1", 1), "server_is_told": True}, {}),
        ({"waited": 0.5, "server_is_told": True},
         {"pyramid_baseplate_redis.connection.wait_time": 0.5}),
    ],
    ids=str,
)  # fmt: skip
def test_the_details_of_a_call_are_attributes(
    notes: dict[str, Any], attributes: dict[str, Any]
) -> None:
    span = Mock()
    span_outcomes.end(span, details(**notes))
    assert attributes_of(span) == attributes
    assert span.mock_calls[-1] == call.end()


# Failure


@pytest.mark.parametrize(
    ("error", "code", "attributes"),
    [
        (WRONG_TYPE, None, {"error.type": "WRONGTYPE", "db.response.status_code": "WRONGTYPE"}),
        (redis.ResponseError("Command # 1 failed"), "OOM",
         {"error.type": "OOM", "db.response.status_code": "OOM"}),
        (redis.ConnectionError("gone"), None, {"error.type": "redis.exceptions.ConnectionError"}),
        (KeyError("a"), None, {"error.type": "KeyError"}),
    ],
    ids=str,
)  # fmt: skip
def test_a_failure_has_its_code_or_its_class(
    error: Exception, code: str | None, attributes: dict[str, str]
) -> None:
    span = Mock()
    span_outcomes.fail(span, error, details(retries=1), code)
    assert attributes_of(span) == {**attributes, "redis.client.operation.retry_attempts": 1}
    assert span.set_status.call_args.args[0].status_code is StatusCode.ERROR
    assert span.mock_calls[-1] == call.end()


def test_a_watch_error_is_no_failure() -> None:
    span = Mock()
    span_outcomes.fail(span, redis.WatchError("changed"))
    assert span.mock_calls == [call.end()]


def test_an_unknown_script_is_no_failure() -> None:
    span = Mock()
    span_outcomes.end_noscript(span, details(retries=1))
    assert attributes_of(span) == {
        "db.response.status_code": "NOSCRIPT", "redis.client.operation.retry_attempts": 1,
    }  # fmt: skip
    assert not span.set_status.called
    assert span.mock_calls[-1] == call.end()


def test_a_span_is_renamed_with_more_attributes() -> None:
    span = Mock()
    span_outcomes.rename(span, "ack jobs", {"a": 1})
    assert span.mock_calls == [call.update_name("ack jobs"), call.set_attributes({"a": 1})]


# A span that fails


@pytest.mark.parametrize(
    ("broken", "do", "message"),
    [
        ("end", lambda span: span_outcomes.end(span), "ending a span failed"),
        ("set_status", lambda span: span_outcomes.fail(span, WRONG_TYPE),
         "describing an error failed"),
        ("set_attribute", lambda span: span_outcomes.end_noscript(span),
         "describing an error failed"),
        ("update_name", lambda span: span_outcomes.rename(span, "a", {}),
         "describing a command failed"),
    ],
)  # fmt: skip
def test_a_span_that_fails_is_logged_and_breaks_nothing(
    logged: Mock, broken: str, do: Any, message: str
) -> None:
    span = Mock()
    getattr(span, broken).side_effect = RuntimeError
    do(span)
    logged.assert_called_once_with(message)
    assert span.end.called or broken == "update_name"
