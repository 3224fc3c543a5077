"""Handlers for ``predis work``, which its tests name."""

from __future__ import annotations

import time
from typing import Any

not_callable = "text"


def count(context: Any, message: Any) -> None:
    """Process a message at once."""
    context.foo.incr("processed")


def slow(context: Any, message: Any) -> None:
    """Tell that a message was begun, and take a while over it."""
    context.foo.incr("begun")
    time.sleep(float(message.body))
    context.foo.incr("processed")


def failing(context: Any, message: Any) -> None:
    """Fail."""
    raise ZeroDivisionError("the handler's own")
