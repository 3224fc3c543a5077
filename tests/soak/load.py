"""The visitors: threads that ask the app's pages, and compare the answers with the questions."""

from __future__ import annotations

import http.client
import itertools
import json
import random
import re
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from html import unescape
from typing import NamedTuple
from urllib.parse import quote, urlencode

from .bounds import FOLLOWED, Bounds
from .pages import PREFIX
from .records import Answer, Records

VISITORS = 4  # of each worker class
PAUSE = 0.12  # seconds, on average, between two requests of a visitor
BURST = 24  # requests at once, of each worker class
HANGS = 60.0  # seconds after which a visitor goes away
ADDRESS = "https://example.com/"
APP_PAGES = ("shorten", "link", "follow", "follow", "top", "links", "health")
SOAK_PAGES = ("echo", "pipeline", "transaction", "watch", "lock", "pubsub")
_ROW = re.compile(
    r'<code>(\w+)</code></a></td>\s*<td class="address">(.*?)</td>'  # of the tables of links
)


class Response(NamedTuple):
    status: int
    location: str
    cookies: str
    body: str


class Visitors:
    """Visitors of one worker class.

    :param now: the seconds since the soak's start.
    """

    def __init__(
        self, group: str, port: int, bounds: Bounds, records: Records, now: Callable[[], float]
    ) -> None:
        self._group = group
        self._port = port
        self._bounds = bounds
        self._records = records
        self._now = now
        self._numbers = itertools.count()
        self._followed: list[str] = []
        self._addresses: dict[str, str] = {}  # of each link that was made, by its code
        self._cookie, self._token = "", ""

    def prepare(self) -> None:
        """Get a form and make the links that are followed."""
        form = self._ask("GET", "/")
        self._cookie = form.cookies.partition(";")[0]
        found = re.search(r'name="csrf_token" value="(\w+)"', form.body)
        assert found, form.body
        self._token = found[1]
        for _ in range(FOLLOWED):
            address = self._new_address()
            self._followed.append(self._made(self._post(address), address))

    def fill(self, size: int) -> None:
        """Ask a page many times at once, without a record of the answers."""
        with ThreadPoolExecutor(size) as crowd:
            list(crowd.map(self._compared, ["echo"] * size))

    def visit(self, stopping: threading.Event) -> None:
        """Ask one page after another until the event is set."""
        chance = random.Random(next(self._numbers))
        while not stopping.wait(chance.uniform(0, 2 * PAUSE)):
            self.ask(chance.choice((*APP_PAGES, *SOAK_PAGES)))

    def burst(self) -> None:
        """Ask many pages at once, three times."""
        with ThreadPoolExecutor(BURST) as crowd:
            for _ in range(3):
                list(crowd.map(self.ask, ["echo", "pipeline", "transaction"] * (BURST // 3)))

    def ask(self, page: str) -> None:
        """Ask a page and record its answer."""
        begun, status, wrong = self._now(), 0, ""
        try:
            status, wrong = self._compared(page)
        except (OSError, http.client.HTTPException, ValueError) as error:
            wrong = f"no answer that can be read: {type(error).__name__}: {error}"
        self._records.answers.append(
            Answer(
                begun, self._now() - begun, self._group, page, status,
                self._bounds.of_page(page), wrong,
            )
        )  # fmt: skip

    def _compared(self, page: str) -> tuple[int, str]:
        """Return the status of a page, and what is wrong with its answer."""
        if page == "shorten":
            address = self._new_address()
            response = self._post(address)
            if response.status == 303:
                self._made(response, address)
            return response.status, _unless(response, 303, bool(response.location))
        if page in ("top", "links"):
            response = self._ask("GET", f"/{page}")
            rows = [(code, unescape(address)) for code, address in _ROW.findall(response.body)]
            return response.status, _unless(response, 200, self._are_ours(rows))
        if page == "health":
            response = self._ask("GET", "/health/redis")
            state = json.loads(response.body)["clients"]["links"]["status"]
            agrees = state == ("failing" if response.status == 503 else "ok")
            return response.status, _unless(response, 200, agrees)
        if page in ("link", "follow"):
            code = random.choice([*self._addresses] if page == "link" else self._followed)
            address = self._addresses[code]
            response = self._ask("GET", f"/links/{code}" if page == "link" else f"/{code}")
            if page == "link":
                return response.status, _unless(response, 200, f">{address}<" in response.body)
            return response.status, _unless(response, 302, response.location == address)
        text = f"{self._group}-{time.time_ns()}-{next(self._numbers)}"
        response = self._ask("GET", f"{PREFIX}/{page}/{quote(text)}")
        expected: list[str | None] = [text]
        conflict = response.status == 409 and page in ("lock", "watch")
        if page == "pipeline":
            expected = [f"{text}-{number}" for number in range(3)]
        elif page == "watch" and not conflict:
            expected = [None, text]
        status = 409 if conflict else 200
        matches = response.status == status and json.loads(response.body) == expected
        return response.status, _unless(response, status, matches)

    def _are_ours(self, rows: list[tuple[str, str]]) -> bool:
        """Return whether each row has the address of its link. Others' links have their group."""
        ours = [row for row in rows if f"/{self._group}/" in row[1]]
        well_formed = all(address.startswith(ADDRESS) for _, address in rows)
        return well_formed and all(self._addresses.get(code) == address for code, address in ours)

    def _new_address(self) -> str:
        return f"{ADDRESS}{self._group}/{time.time_ns()}/{next(self._numbers)}"

    def _made(self, response: Response, address: str) -> str:
        """Note the link that was made, and return its code."""
        assert response.status == 303, response
        code = response.location.rpartition("/")[2]
        self._addresses[code] = address
        return code

    def _post(self, address: str) -> Response:
        form = urlencode({"csrf_token": self._token, "url": address})
        return self._ask("POST", "/", form)

    def _ask(self, method: str, path: str, form: str | None = None) -> Response:
        headers = {"Cookie": self._cookie, "Connection": "close"}
        if form is not None:
            headers["Content-Type"] = "application/x-www-form-urlencoded"
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=HANGS)
        try:
            connection.request(method, path, form, headers)
            answer = connection.getresponse()
            body = answer.read().decode()
        finally:
            connection.close()
        return Response(
            answer.status,
            answer.headers.get("Location", ""),
            answer.headers.get("Set-Cookie", ""),
            body,
        )


def _unless(response: Response, expected: int, is_right: bool) -> str:
    """Return what is wrong with an answer. 503 is the app's answer to a fault."""
    if response.status == 503 or (response.status == expected and is_right):
        return ""
    return f"{response.status} {response.location} {response.body[:200]}"
