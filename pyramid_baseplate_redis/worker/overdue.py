"""Logs which handlers have outlived their message's lease, and where they are."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence

from ..runtime.call_stack import frames_of_thread, stack_of
from .dispatcher import Handle

logger = logging.getLogger(__package__)


def report_overdue(name: str, lease: float, handles: Sequence[Handle]) -> None:
    """Log each handler that has run for longer than the lease, once, with its stack.

    :param name: the queue's name.
    :param lease: seconds.
    """
    now = time.monotonic()
    for handle in handles:
        if handle.is_reported or now - handle.started < lease:
            continue
        handle.is_reported = True
        logger.warning(
            "%s: the handler of %s has outlived the lease of %s s; another consumer may receive "
            "the message. The handler is here:\n%s",
            name, handle.message.id, lease,
            stack_of(frames_of_thread(handle.thread)),
        )  # fmt: skip
