"""A network that loses, cuts and resets: no command is executed twice, no half reply is one."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import redis

from pyramid_baseplate_redis import CircuitOpenError, is_retryable

from ..support.servers import running_server, wait_until
from .everywhere import everywhere
from .helpers import (
    QUESTIONS,
    Client,
    Crowd,
    ask,
    check_all_slots_are_back,
    client_of,
    failure_of,
)
from .proxy import Proxy

pytestmark = pytest.mark.slow("loses replies under load")

FAILURES = (redis.ConnectionError, redis.TimeoutError, redis.WatchError,
            redis.exceptions.LockError, redis.exceptions.NoScriptError)  # fmt: skip


def url_of(proxy: Proxy) -> str:
    return f"redis://127.0.0.1:{proxy.port}/0"


@everywhere
@pytest.mark.parametrize("retries", ["0", "5"])
def test_no_write_is_executed_twice_when_replies_are_lost(tmp_path: Path, retries: str) -> None:
    with (
        running_server("valkey", tmp_path) as server,
        Proxy(server.port) as proxy,
        client_of(url_of(proxy), max_connections="8", retries=retries) as client,
    ):
        proxy.lose_replies(0.1)
        ends: Counter[str] = Counter()
        guard = threading.Lock()

        def write(number: int) -> None:
            for call in range(60):
                text = f"{number}-{call}"
                try:
                    client.incr("count")
                    end = "counted"
                except FAILURES:
                    end = "unknown"
                with guard:
                    ends[end] += 1
                with suppress(*FAILURES):
                    client.lpush("list", text)

        threads = [threading.Thread(target=write, args=(n,), daemon=True) for n in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
            assert not thread.is_alive()
        with redis.Redis(port=server.port, decode_responses=True) as admin:
            count = int(admin.get("count"))
            pushed = admin.lrange("list", 0, -1)
        assert proxy.lost > 20
        assert ends["counted"] <= count <= ends.total()
        assert len(pushed) == len(set(pushed))  # none of them twice
        proxy.lose_replies(False)
        check_all_slots_are_back(client, server)


def count(key: str, pipeline: Any) -> None:
    pipeline.multi()
    pipeline.incr(key)


def test_a_transaction_function_is_never_executed_twice_when_replies_are_lost(
    tmp_path: Path,
) -> None:
    with (
        running_server("valkey", tmp_path) as server,
        Proxy(server.port) as proxy,
        client_of(url_of(proxy), retries="3") as client,
    ):
        proxy.lose_replies(0.1)
        number = 0
        while proxy.lost < 20:
            number += 1
            with suppress(*FAILURES):
                client.transaction(partial(count, f"count:{number}"), f"count:{number}")
        proxy.lose_replies(False)
        with redis.Redis(port=server.port) as admin:
            counts = {int(admin.get(f"count:{each}") or 0) for each in range(1, number + 1)}
        assert max(counts) == 1


def test_what_only_reads_is_answered_all_the_same_with_retries(tmp_path: Path) -> None:
    with (
        running_server("valkey", tmp_path) as server,
        Proxy(server.port) as proxy,
        client_of(url_of(proxy), retries="50", retry_budget="20 seconds") as client,
    ):
        client.set("key", "value")
        proxy.lose_replies(0.15)
        while proxy.lost < 10:
            assert client.get("key") == b"value"


@everywhere
def test_a_network_that_cuts_and_resets_gives_no_wrong_reply(tmp_path: Path) -> None:
    questions = [*QUESTIONS.values()]
    with (
        running_server("valkey", tmp_path) as server,
        Proxy(server.port) as proxy,
        client_of(url_of(proxy), max_connections="15", socket_timeout="500 ms") as client,
    ):
        asked = iter(range(10**9))
        chance = random.Random(7)
        work = lambda: questions[next(asked) % len(questions)](client)  # noqa: E731
        with Crowd(20, work, FAILURES) as crowd:
            for _ in range(20):
                proxy.cut_reply_after(chance.choice([None, 1, 7, 40]))
                proxy.lose_replies(chance.choice([0, 0.3]))
                if chance.random() < 0.5:
                    proxy.reset_connections()
                time.sleep(0.05)
                proxy.cut_reply_after(None)
                proxy.lose_replies(False)
                crowd.wait_for_answers(20)
        assert len(crowd.errors) > 20
        check_all_slots_are_back(client, server)


@everywhere
@pytest.mark.parametrize("size", [1, 4, 20])
def test_half_a_reply_is_an_error_whose_outcome_is_unknown(tmp_path: Path, size: int) -> None:
    with (
        running_server("valkey", tmp_path) as server,
        Proxy(server.port) as proxy,
        client_of(url_of(proxy), max_connections="1") as client,
    ):
        client.set("key", "x" * 100)
        proxy.cut_reply_after(size)
        error = failure_of(lambda: client.get("key"), at_most=0)
        assert isinstance(error, redis.ConnectionError)
        assert is_retryable(error) is None
        proxy.cut_reply_after(None)
        ask(client)
        check_all_slots_are_back(client, server)


@everywhere
def test_a_reset_connection_is_an_error_at_once(tmp_path: Path) -> None:
    with (
        running_server("valkey", tmp_path) as server,
        Proxy(server.port) as proxy,
        client_of(url_of(proxy), max_connections="1") as client,
    ):
        ask(client)
        errors: list[BaseException] = []

        def wait() -> None:
            errors.append(failure_of(lambda: client.blpop(["nothing"], 10), at_most=5))

        waiting = threading.Thread(target=wait, daemon=True)
        waiting.start()
        with redis.Redis(port=server.port) as admin:
            wait_until(lambda: admin.info("clients")["blocked_clients"])
        proxy.reset_connections()
        waiting.join(3)
        assert isinstance(errors[0], redis.ConnectionError)
        check_all_slots_are_back(client, server)


def test_a_network_that_is_frozen_costs_one_timeout_for_each_request(tmp_path: Path) -> None:
    with (
        running_server("valkey", tmp_path) as server,
        Proxy(server.port) as proxy,
        client_of(url_of(proxy), socket_timeout="200 ms") as client,
    ):
        ask(client)
        proxy.freeze(True)
        assert isinstance(failure_of(lambda: client.get("key"), at_most=0.2), redis.TimeoutError)
        proxy.freeze(False)
        ask(client)


def test_the_circuit_breaker_keeps_connections_from_a_server_that_refuses_them(
    tmp_path: Path,
) -> None:
    with (
        running_server("valkey", tmp_path) as server,
        Proxy(server.port) as proxy,
        client_of(url_of(proxy), breaker_failures="2", breaker_reset="1 minute") as client,
    ):
        proxy.cut_reply_after(0)
        for _ in range(2):
            failure_of(lambda: client.get("key"))
        accepted = proxy.accepted
        for _ in range(50):
            assert isinstance(failure_of(lambda: client.get("key")), CircuitOpenError)
        assert proxy.accepted == accepted


def test_a_client_of_a_gone_network_says_which_client_and_server(tmp_path: Path) -> None:
    with Proxy(1) as proxy, client_of(url_of(proxy)) as client:
        error = failure_of(lambda: client.get("key"), at_most=0)
        assert str(error).startswith("foo: ")
        assert str(proxy.port) in str(error)
        assert isinstance(client, Client)
