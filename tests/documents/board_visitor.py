"""Visit the board of the tutorial: ``python board_visitor.py STEP``.

It runs in the reader's directory, in a process of its own, since the application prints its traces.
The lines that the page of the step shows are printed between ``[shown]`` and ``[hidden]``. A line
``[sees] ...`` has words that the page quotes.
"""

# ruff: noqa: T201 (its output is what the test reads)
from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from pyramid.paster import get_app
from webtest import TestApp

SHOWN, HIDDEN, SEES = "[shown]", "[hidden]", "[sees] "


@contextmanager
def shown() -> Iterator[None]:
    print(SHOWN)
    yield
    print(HIDDEN)


def application(config: str = "development.ini") -> TestApp:
    return TestApp(get_app(config))


def sees(response: Any, words: str) -> None:
    assert words in response, response.text
    print(f"{SEES}{words}")


def post(page: Any, author: str = "Ada", text: str = "Hello") -> Any:
    """Send the form of a page, and return the answer."""
    form = page.forms["post"]
    form["author"], form["text"] = author, text
    return form.submit()


def visit_board() -> None:
    app = application()
    sees(app.get("/"), "No messages yet.")
    page = post(app.get("/")).follow()
    assert "<strong>Ada</strong>: Hello" in page


def visit_likes() -> None:
    app = application()
    page = post(app.get("/")).follow()
    assert "</button> 0" in page
    with shown():
        page = page.forms[1].submit().follow()
    assert "</button> 1" in page


def visit_sessions() -> None:
    app = application()
    page = app.get("/")
    with shown():
        page = post(page).follow()
    sees(page, "Your message is on the board.")
    assert page.forms["post"]["author"].value == "Ada"
    application().post("/", {"author": "Eve", "text": "Spam"}, status=400)
    assert "Spam" not in app.get("/")


def visit_caching() -> None:
    app = application()
    post(app.get("/")).follow()
    caching = sys.modules["board.caching"]
    caching.region.delete("busiest authors")
    with shown():
        page = app.get("/")
    assert "<li>Ada: 1</li>" in page
    with shown():
        app.get("/")


def visit_queue() -> None:
    page = application().get("/")
    with shown():
        post(page)


def visit_health() -> None:
    app = application()
    post(app.get("/")).follow()
    report(app.get("/health/redis", status=200))
    outage = application("outage.ini")
    with shown():
        page = outage.get("/", status=503)
    sees(page, "The board is having a break.")
    report(outage.get("/health/redis", status=503))
    with open("outage.ini", encoding="utf-8") as file:
        settings = file.read().replace("store.url", "cache.url")
    with open("outage.ini", "w", encoding="utf-8") as file:
        file.write(settings)
    outage = application("outage.ini")
    outage.set_cookie("session", app.cookies["session"])
    with shown():
        page = outage.get("/", status=200)
    assert "<li>Ada: 1</li>" in page
    outage.get("/health/redis", status=200)


def report(response: Any) -> None:
    with shown():
        print(json.dumps(response.json, indent=4))  # as json.tool


VISITS: dict[str, Callable[[], None]] = {
    "board": visit_board,
    "likes": visit_likes,
    "sessions": visit_sessions,
    "caching": visit_caching,
    "queue": visit_queue,
    "health": visit_health,
}

if __name__ == "__main__":
    VISITS[sys.argv[1]]()
