"""The page of docs/guides/timeouts keeps its promise under each fault."""

from __future__ import annotations

import re
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from webob import Request

from ...support.servers import running_server, wait_until
from ...support.unreachable import unreachable_port
from .cache_faults import delaying_port, frozen, full_pool
from .measure_prices import ALL, BREAKER_FAILURES, MEASURED, UNREACHABLE, measure
from .prices_page import Page

PROMISE_MS = 500
_GUIDE = (MEASURED.parent.parent / "timeouts.rst").read_text()
_NO_LIMITS: dict[str, str | None] = {
    f"cache.{name}": None
    for name in (
        "deadline", "socket_timeout", "socket_connect_timeout", "pool_timeout",
        "breaker_failures", "breaker_reset",
    )
}  # fmt: skip
# The limits of the settings, in the order in which the guide adds them up.
_CACHE_MS = {
    "no fault": 0,
    "replies take 5 ms": 30,
    "replies take 40 ms": 50,
    "server is frozen": 50,
    "server is dead": 0,
    "pool is full": 30,
    UNREACHABLE: 50,
}


def shown() -> dict[str, tuple[str, str]]:
    """Return the errors in the guide's table, by fault: of the first request and of a later one."""
    rows = re.findall(
        r"^(\S.*?)  +\d+ ms  (\w+(?: \w+)?) +<?\d+ ms  (.*)$", MEASURED.read_text(), re.M
    )
    return {fault: (first, later) for fault, first, later in rows}


def test_the_table_has_each_fault() -> None:
    assert list(shown()) == list(ALL) == list(_CACHE_MS)


@pytest.mark.timed("measures time")
@pytest.mark.parametrize("fault", ALL)
def test_the_page_is_in_time(fault: str, tmp_path: Path) -> None:
    result = measure(fault, tmp_path)
    assert (result.error or "no error", result.later_error or "no error") == shown()[fault]
    assert 250 + _CACHE_MS[fault] <= result.first_ms < PROMISE_MS
    assert result.later_ms < PROMISE_MS
    if result.error:
        text = re.sub(r"127\.0\.0\.1:\d+", "localhost:6379", result.message)
        assert " ".join(text.split()) in " ".join(_GUIDE.split())


@pytest.mark.timed("measures time")
def test_the_page_is_fast_again_after_the_server_is_back(tmp_path: Path) -> None:
    with running_server("valkey", tmp_path) as server:
        page = Page(server.port)
        page.set_database_seconds(0)
        with frozen(server, page):
            for _ in range(BREAKER_FAILURES):
                assert page.get()[2] == "TimeoutError"
            assert page.get()[2] == "CircuitOpenError"
        wait_until(lambda: not page.get()[2], seconds=5)
        assert page.get()[2] == ""


@pytest.mark.timed("measures time")
def test_within_limits_all_calls_together(tmp_path: Path) -> None:
    with running_server("valkey", tmp_path) as server, delaying_port(server, 0.005) as port:
        page = Page(port)
        page.get()
        milliseconds, status, error, message = page.get("/basket")
    assert status == 200
    assert error == "DeadlineExceededError"
    assert 350 <= milliseconds < PROMISE_MS
    assert message.startswith("cache.within(): the 0.1 seconds passed")


def test_a_cache_that_is_not_required_leaves_the_application_ready(tmp_path: Path) -> None:
    with running_server("valkey", tmp_path) as server:
        page = Page(server.port)
        server.kill()
        response = Request.blank("/health/redis").get_response(page.app)
    assert response.status_int == 200
    assert response.json_body["clients"]["cache"]["status"] == "failing"


@pytest.mark.slow("waits for the default timeouts of 5 seconds")
@pytest.mark.parametrize("fault", ["server is frozen", "pool is full", UNREACHABLE])
def test_with_the_defaults_the_page_takes_five_seconds(fault: str, tmp_path: Path) -> None:
    faults: dict[str, Any] = {"server is frozen": frozen, "pool is full": full_pool}
    with ExitStack() as stack:
        server = stack.enter_context(running_server("valkey", tmp_path))
        port = stack.enter_context(unreachable_port()) if fault == UNREACHABLE else server.port
        page = Page(port, _NO_LIMITS)
        if fault in faults:
            stack.enter_context(faults[fault](server, page))
        milliseconds, status, _, _ = page.get()
    assert status == 200
    assert 5250 <= milliseconds < 7000
