"""Measure the page of docs/guides/timeouts under each fault.

``python -m tests.documents.guides.measure_prices`` writes the table that the guide shows.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...support.servers import Server, running_server
from ...support.unreachable import unreachable_port
from .cache_faults import dead, delaying_port, frozen, full_pool, no_fault
from .prices_page import GUIDE, Page

MEASURED = GUIDE / "measured.txt"
BREAKER_FAILURES = 5


@dataclass(frozen=True)
class Result:
    """One fault: the page's time in milliseconds, and what the cache raised."""

    fault: str
    first_ms: float
    error: str
    later_ms: float
    later_error: str
    message: str


def measured(fault: str, page: Page) -> Result:
    """Measure the first request, and the one after five more."""
    first_ms, status, error, message = page.get()
    assert status == 200
    page.set_database_seconds(0)
    for _ in range(BREAKER_FAILURES):
        page.get()
    page.set_database_seconds(0.25)
    later_ms, status, later_error, _ = page.get()
    assert status == 200
    return Result(fault, first_ms, error, later_ms, later_error, message)


FAULTS: dict[str, Callable[[Server, Page], Any]] = {
    "server is frozen": frozen,
    "server is dead": dead,
    "pool is full": full_pool,
}
DELAYS = {"replies take 5 ms": 0.005, "replies take 40 ms": 0.04}
UNREACHABLE = "packets are dropped"
ALL = ("no fault", *DELAYS, *FAULTS, UNREACHABLE)


def measure(fault: str, directory: Path) -> Result:
    """Make one fault on a server of its own, and measure the page."""
    with ExitStack() as stack:
        server = stack.enter_context(running_server("valkey", directory))
        port = server.port
        if fault == UNREACHABLE:
            port = stack.enter_context(unreachable_port())
        elif fault in DELAYS:
            port = stack.enter_context(delaying_port(server, DELAYS[fault]))
        page = Page(port)
        stack.enter_context(FAULTS.get(fault, no_fault)(server, page))
        return measured(fault, page)


def _rounded(milliseconds: float) -> str:
    return "<1" if milliseconds < 1 else f"{milliseconds:.0f}"


def table(results: list[Result]) -> str:
    """Return the results as the guide shows them."""
    lines = ["                      first request                     after five more", ""]
    for result in results:
        first = f"{_rounded(result.first_ms):>3} ms  {result.error or 'no error':<23}"
        later = f"{_rounded(result.later_ms):>3} ms  {result.later_error or 'no error'}"
        lines.append(f"{result.fault:<20}  {first}  {later}")
    return "\n".join(lines) + "\n"


def messages(results: list[Result]) -> str:
    """Return the texts of the errors, with the port that the reader's server has."""
    texts = [re.sub(r"127\.0\.0\.1:\d+", "localhost:6379", result.message) for result in results]
    return "\n".join(text for text in texts if text) + "\n"


def main() -> None:
    results = []
    for fault in ALL:
        with tempfile.TemporaryDirectory() as directory:
            results.append(measure(fault, Path(directory)))
    MEASURED.write_text(table(results))
    print(table(results), messages(results), sep="\n")  # noqa: T201


if __name__ == "__main__":
    main()
