"""Clients that sample hot keys, and the sets in which they are counted."""

from __future__ import annotations

import importlib
import logging
from typing import Any

import pytest
import redis

from pyramid_baseplate_redis import MonitoredRedisConnection, hot_keys
from pyramid_baseplate_redis.telemetry.hot_keys.tracker import HotKeyTracker

from .servers import Server

READS, WRITES = "baseplate-hot-key-tracker-reads", "baseplate-hot-key-tracker-writes"
ALL = {"track_key_reads_sample_rate": "100%", "track_key_writes_sample_rate": "100%"}
module: Any = importlib.import_module("pyramid_baseplate_redis.telemetry.hot_keys.tracker")


def tracker_of(client: MonitoredRedisConnection) -> HotKeyTracker:
    tracker = client.connection_pool.hot_keys
    assert isinstance(tracker, HotKeyTracker)
    return tracker


def counted(server: Server, client: MonitoredRedisConnection) -> tuple[dict[str, float], ...]:
    """What is counted as read and as written once everything has been written."""
    assert tracker_of(client).flush()
    return in_sets(server)


def in_sets(server: Server) -> tuple[dict[str, float], ...]:
    with redis.Redis(port=server.port) as plain:
        return tuple(
            {key.decode(): samples for key, samples in hot_keys(plain, kind, 1000)}
            for kind in ("reads", "writes")
        )


def warnings_of(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
