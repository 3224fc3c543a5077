"""Pages do not grow the process: Pyramid keeps each text that it puts into a path, for ever."""

from __future__ import annotations

import pytest
from pyramid import urldispatch
from webtest import TestApp

from example_app import main

from ..support.link_shortener import made_link
from ..support.servers import Server


@pytest.fixture
def browser(valkey: Server) -> TestApp:
    settings = {"links.url": valkey.url, "pyramid.includes": "example_app.showcase"}
    return TestApp(main({}, **settings))


def test_ids_of_traces_and_codes_of_links_are_not_kept(
    browser: TestApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept: set[str] = set()
    quote = urldispatch.quote_path_segment

    def noting(segment: str, safe: str) -> str:
        kept.add(segment)
        return str(quote(segment, safe=safe))

    monkeypatch.setattr(urldispatch, "quote_path_segment", noting)
    code = made_link(browser)
    page = browser.get(f"/links/{code}")
    assert page.html.select_one(".short a")["href"] == f"http://localhost/{code}"
    browser.get(f"/{code}", status=302)
    for path in ("/", "/top", "/links"):
        browser.get(path)
    browser.get("/top").click("See its trace")
    browser.get("/traces").click("GET /top", index=0)
    browser.get("/links").click(code)
    assert kept == {"icon.svg", "theme.css"}
