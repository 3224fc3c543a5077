"""Receiving is measured, and messages are settled at the end of their block."""

from __future__ import annotations

import logging
from unittest.mock import ANY, Mock, call

import pytest
import redis

from .conftest import Consumer

LOGGER = "pyramid_baseplate_redis.queues.receiving"


def test_received_messages_are_counted(consumer: Consumer) -> None:
    consumer.found[0] = [object(), object()]
    consumer.receiver.wait(2, 0)
    assert consumer.tracer.metrics.mock_calls == [call.received(ANY, 2)]


def test_a_wait_without_a_message_is_not_measured(consumer: Consumer) -> None:
    consumer.times_out(0)
    assert consumer.tracer.metrics.mock_calls == []


def test_the_end_of_the_processing_is_recorded_with_its_error(consumer: Consumer) -> None:
    span, error = Mock(), KeyError()
    consumer.receiver.stop_processing(span, 5.0, error)
    consumer.receiver.stop_processing(None, 6.0, None)
    assert span.mock_calls == [call.end(error)]
    assert consumer.tracer.metrics.mock_calls == [
        call.processed(5.0, error), call.processed(6.0, None),
    ]  # fmt: skip


def message(number: int, is_settled: bool = False) -> Mock:
    return Mock(id=f"{number}-0", is_settled=is_settled)


def test_messages_that_are_settled_already_are_left_out(consumer: Consumer) -> None:
    first, second = message(1, is_settled=True), message(2)
    consumer.receiver.leave([first, second], None, None)
    consumer.receiver.leave([first], None, None)
    consumer.receiver.leave([first], KeyError(), None)
    assert consumer.group.leases.mock_calls == [call.acknowledge([second])]


def test_after_an_error_messages_fail_with_their_delay(consumer: Consumer) -> None:
    error, made = KeyError(), message(1)
    consumer.receiver.leave([made], error, 3.0)
    assert consumer.group.leases.mock_calls == [call.fail([made], error, 3.0)]


def test_a_failure_to_give_messages_back_is_logged_with_their_identifiers(
    consumer: Consumer, caplog: pytest.LogCaptureFixture
) -> None:
    consumer.group.leases.fail.side_effect = redis.ConnectionError("gone")
    consumer.receiver.leave([message(1), message(2)], KeyError(), None)
    line = "queue jobs: 1-0, 2-0 could not be given back: gone"
    assert caplog.record_tuples == [(LOGGER, logging.WARNING, line)]
