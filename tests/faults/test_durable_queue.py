"""A durable queue in a crowd: many consumers in one process, under threads and under gevent."""

from __future__ import annotations

import random
import time
from pathlib import Path

from pyramid_baseplate_redis import DurableMessageQueue, TimedOutError

from ..support.servers import running_server
from .everywhere import everywhere
from .helpers import check_all_slots_are_back, client_of, in_threads


@everywhere
def test_consumers_of_one_process_share_the_messages(tmp_path: Path) -> None:
    with (
        running_server("valkey", tmp_path) as server,
        client_of(server, max_connections="5") as client,
    ):
        queue = DurableMessageQueue("jobs", client)
        wanted = [b"%d" % number for number in range(300)]
        queue.put_many(wanted)
        seen: list[bytes] = []

        def work() -> None:
            while True:
                try:
                    with queue.receive(timeout=0) as message:
                        seen.append(message.body)
                except TimedOutError:
                    return

        in_threads(*[work] * 20)
        assert sorted(seen) == sorted(wanted)
        assert queue.stats().length == 0
        check_all_slots_are_back(client, server)


@everywhere
def test_what_fails_comes_back_until_it_succeeds(tmp_path: Path) -> None:
    with (
        running_server("valkey", tmp_path) as server,
        client_of(server, max_connections="5") as client,
    ):
        queue = DurableMessageQueue("jobs", client, max_attempts=1000, backoff=None)
        wanted = [b"%d" % number for number in range(100)]
        queue.put_many(wanted)
        seen: list[bytes] = []

        def work() -> None:
            ends_at = time.monotonic() + 60
            while len(seen) < len(wanted) and time.monotonic() < ends_at:
                try:
                    with queue.receive(timeout=0.2) as message:
                        if random.random() < 0.3:
                            raise ZeroDivisionError
                        seen.append(message.body)
                except (TimedOutError, ZeroDivisionError):
                    continue

        in_threads(*[work] * 10)
        assert sorted(seen) == sorted(wanted)
        assert (queue.stats().length, queue.stats().dead) == (0, 0)
        check_all_slots_are_back(client, server)
