"""Handlers for ``predis work``, which its tests name."""

from __future__ import annotations

import os
import time
from typing import Any

not_callable = "text"


def count(request: Any, message: Any) -> None:
    """Process a message at once."""
    request.foo.incr("processed")


def slow(request: Any, message: Any) -> None:
    """Tell that a message was begun, and take a while over it."""
    request.foo.incr("begun")
    time.sleep(float(message.body))
    request.foo.incr("processed")


def failing(request: Any, message: Any) -> None:
    """Fail."""
    raise ZeroDivisionError("the handler's own")


def of_process(request: Any, message: Any) -> None:
    """Record the process that handles a message, and wait for the test."""
    request.foo.sadd("processes", os.getpid())
    time.sleep(float(message.body))


def with_context(context: Any, message: Any) -> None:
    """Record the class of the first argument."""
    context.foo.set("class", type(context).__name__)


def one_argument(message: Any) -> None:
    """Can't be called with two arguments."""
