"""Messages that are put when a transaction was committed, by the transaction manager's hook."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from opentelemetry import context as otel_context

from .exceptions import MessageQueueError

logger = logging.getLogger(__name__)


def put_after_commit(
    transaction_manager: Callable[[], Any] | None, queue: str, put: Callable[[], object]
) -> None:
    """Call ``put`` behind the commit of the current transaction, and never if it is aborted.

    :param transaction_manager: returns one of the package ``transaction``, such as ``request.tm``,
        or ``None``.
    :raises MessageQueueError: if there is none, or no transaction was begun.
    """
    manager = transaction_manager() if transaction_manager is not None else None
    if manager is None:
        raise MessageQueueError(
            f"queue {queue}: after_commit needs a transaction of request.tm that is under way; add "
            "pyramid_tm to the application, or put the message behind the transaction"
        )
    caller = otel_context.get_current()

    def committed(success: bool) -> None:
        if not success:
            return
        token = otel_context.attach(caller)
        try:
            put()
        except Exception:
            # The transaction package would swallow it, and the commit can't be undone.
            logger.exception("queue %s: a message was lost, since it couldn't be put", queue)
        finally:
            otel_context.detach(token)

    try:
        manager.get().addAfterCommitHook(committed)
    except Exception as error:  # NoTransaction, of a package that needn't be installed
        raise MessageQueueError(
            f"queue {queue}: after_commit needs a transaction, and there is none: "
            f"{type(error).__name__}"
        ) from error
