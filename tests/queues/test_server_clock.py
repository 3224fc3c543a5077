"""The server's time is asked for rarely, and again after a connection has failed."""

from __future__ import annotations

import time
from typing import Any

import pytest
import redis

from pyramid_baseplate_redis.queues.schedules.server_clock import ServerClock
from pyramid_baseplate_redis.queues.stream_commands import StreamCommands

from ..faults.proxy import Proxy
from ..support.servers import MakeClient, Server


def times_asked(raw: Any) -> int:
    stats: dict[str, Any] = raw.info("commandstats")
    return int(stats.get("cmdstat_time", {"calls": 0})["calls"])


def test_the_time_is_the_servers_and_asked_for_once(
    valkey: Server, make_client: MakeClient
) -> None:
    clock = ServerClock(StreamCommands(make_client(valkey), "jobs"))
    with redis.Redis(port=valkey.port) as raw:
        seconds, microseconds = raw.time()
        before = seconds * 1000 + microseconds / 1000
        raw.config_resetstat()
        assert before - 5 < clock.now() < before + 2000
        assert clock.now() <= clock.now()
        assert abs(clock.monotonic(clock.now()) - time.monotonic()) < 0.5
        assert times_asked(raw) == 1


def test_it_is_asked_for_again_after_a_while(
    valkey: Server, make_client: MakeClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = ServerClock(StreamCommands(make_client(valkey), "jobs"))
    with redis.Redis(port=valkey.port) as raw:
        raw.config_resetstat()
        clock.now()
        moment = time.monotonic() + 60
        monkeypatch.setattr(time, "monotonic", lambda: moment)
        clock.now()
        clock.now()
        assert times_asked(raw) == 2


def test_it_is_asked_for_again_after_a_connection_has_failed(
    valkey: Server, make_client: MakeClient
) -> None:
    """Another server may have taken over, whose clock differs."""
    with Proxy(valkey.port) as proxy, redis.Redis(port=valkey.port) as raw:
        commands = StreamCommands(make_client(f"redis://127.0.0.1:{proxy.port}"), "jobs")
        clock = ServerClock(commands)
        raw.config_resetstat()
        clock.now()
        proxy.lose_replies(True)
        with pytest.raises(redis.ConnectionError):
            commands.send(("GET", "jobs"))
        proxy.lose_replies(False)
        clock.now()
        clock.now()
        assert times_asked(raw) == 2
