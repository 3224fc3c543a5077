"""A message is put after the commit of a transaction, in the caller's context."""

from __future__ import annotations

import logging
from typing import Any
from unittest.mock import Mock

import pytest
import redis
from opentelemetry import context as otel_context

from pyramid_baseplate_redis import MessageQueueError
from pyramid_baseplate_redis.queues.after_commit import put_after_commit


def hook_of(put: Any) -> Any:
    """Return the function that the transaction calls at its end."""
    manager = Mock()
    put_after_commit(lambda: manager, "jobs", put)
    (hook,) = (each.args[0] for each in manager.get().addAfterCommitHook.mock_calls)
    return hook


@pytest.mark.parametrize("success", [True, False])
def test_a_message_is_put_after_a_successful_commit_only(success: bool) -> None:
    put = Mock()
    hook = hook_of(put)
    assert not put.called
    hook(success)
    assert put.called is success


def test_the_span_of_the_caller_is_current() -> None:
    seen: list[object] = []
    token = otel_context.attach(otel_context.set_value("mine", 1))
    hook = hook_of(lambda: seen.append(otel_context.get_value("mine")))
    otel_context.detach(token)
    hook(True)
    assert seen == [1]
    assert otel_context.get_value("mine") is None


def test_a_failure_is_logged_and_ends_the_context(caplog: pytest.LogCaptureFixture) -> None:
    token = otel_context.attach(otel_context.set_value("mine", 1))
    hook = hook_of(Mock(side_effect=redis.ConnectionError("gone")))
    otel_context.detach(token)
    hook(True)
    (record,) = caplog.records
    assert (record.levelno, record.name) == (logging.ERROR, "pyramid_baseplate_redis.queues")
    assert record.getMessage() == "queue jobs: a message was lost because it could not be put"
    assert otel_context.get_value("mine") is None


@pytest.mark.parametrize("manager", [None, lambda: None], ids=["none", "none for the request"])
def test_without_a_transaction_manager_it_is_an_error(manager: Any) -> None:
    with pytest.raises(MessageQueueError, match=r"queue jobs: after_commit needs .*request\.tm"):
        put_after_commit(manager, "jobs", Mock())


def test_without_a_transaction_it_is_an_error() -> None:
    manager = Mock()
    manager.get.side_effect = KeyError("none")
    with pytest.raises(MessageQueueError, match="none has begun: KeyError") as caught:
        put_after_commit(lambda: manager, "jobs", Mock())
    assert isinstance(caught.value.__cause__, KeyError)
