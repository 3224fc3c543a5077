"""A server that answers reads and refuses writes: full memory, or a replica."""

from __future__ import annotations

from pathlib import Path

import pytest
from webtest import TestApp

from example_app import main

from ..support.link_shortener import submit
from ..support.servers import running_server

REFUSALS = {
    "OutOfMemoryError": ("--maxmemory", "1"),
    "ReadOnlyError": ("--replicaof", "127.0.0.1 1"),
}


@pytest.mark.parametrize("error", REFUSALS)
def test_the_visitor_is_asked_to_try_again(
    error: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with running_server("valkey", tmp_path, *REFUSALS[error]) as server:
        browser = TestApp(
            main({}, **{"links.url": server.url, "pyramid.includes": "example_app.showcase"})
        )
        answer = submit(browser, "https://example.com", status=503)
        assert answer.headers["Retry-After"] == "5"
        assert "Try again soon" in answer
        assert "Redis refuses writes" in answer
        assert "cannot be reached" not in answer
        browser.get("/top", status=200)
    assert f"POST /: {error}:" in caplog.text
