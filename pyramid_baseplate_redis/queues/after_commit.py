"""Puts messages after the commit of a transaction."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from opentelemetry import context as otel_context

from ..exceptions import MessageQueueError

logger = logging.getLogger(__package__)


def put_after_commit(
    transaction_manager: Callable[[], Any] | None, queue: str, put: Callable[[], object]
) -> None:
    """Call ``put`` after the current transaction is committed, and not at all if it is aborted.

    :param transaction_manager: returns a manager of the package ``transaction``, such as
        ``request.tm``, or ``None``.
    :param queue: the queue's name, for errors.
    :raises MessageQueueError: there is no manager, or no transaction has begun.
    """
    manager = transaction_manager() if transaction_manager is not None else None
    if manager is None:
        raise MessageQueueError(
            f"queue {queue}: after_commit needs a transaction of request.tm. Include pyramid_tm in "
            "the application, or put the message after the transaction."
        )
    caller = otel_context.get_current()

    def committed(success: bool) -> None:
        if not success:
            return
        token = otel_context.attach(caller)
        try:
            put()
        except Exception:
            # The transaction package would swallow the error, and the commit cannot be undone.
            logger.exception("queue %s: a message was lost because it could not be put", queue)
        finally:
            otel_context.detach(token)

    try:
        manager.get().addAfterCommitHook(committed)
    except Exception as error:  # NoTransaction; its package may not be installed
        raise MessageQueueError(
            f"queue {queue}: after_commit needs a transaction, but none has begun: "
            f"{type(error).__name__}"
        ) from error
