"""What the hunt has found once: each a test that fails at once where the hunt takes its time."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from ..support import Server
from .helpers import client_of


def test_a_message_is_read_without_the_lock_that_all_loggers_share(
    valkey: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    # An interruption of whoever asks for a logger may leave it locked, in all threads.
    def asked(*args: Any) -> None:
        raise AssertionError("a logger was asked for")

    with client_of(valkey) as client, client.pubsub() as subscriber:
        subscriber.subscribe("news")
        monkeypatch.setattr(logging.Manager, "getLogger", asked)
        assert subscriber.get_message(timeout=5) == {
            "type": "subscribe", "pattern": None, "channel": b"news", "data": 1,
        }  # fmt: skip
