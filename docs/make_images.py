"""Make the pictures of ``predis`` in docs/images, with an embedded server.

python docs/make_images.py
"""

from __future__ import annotations

import os
import random
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from io import StringIO
from pathlib import Path
from typing import Any

from rich._export_format import CONSOLE_SVG_FORMAT
from rich.console import Console, Group

from pyramid_baseplate_redis import RedisClient
from pyramid_baseplate_redis.cli.check import check
from pyramid_baseplate_redis.cli.check import view as check_view
from pyramid_baseplate_redis.cli.top_sampling import Watch
from pyramid_baseplate_redis.cli.top_view import view as top_view

IMAGES = Path(__file__).parent / "images"
# Without the fonts that rich has fetched from the internet.
SVG = re.sub(r"@font-face \{\{.*?\}\}", "", CONSOLE_SVG_FORMAT, flags=re.DOTALL)

SETTINGS = {
    "links.url": "embedded://",
    "links.client_name": "web",
    "links.socket_timeout": "200 milliseconds",
    "sessions.url_env": "SESSIONS_URL",
    "sessions.max_connections": "10",
}


def main() -> None:
    """Make both pictures."""
    os.environ["SESSIONS_URL"] = "redis://web:a-password@127.0.0.1:1/0"  # where nobody listens
    links = RedisClient(decode_responses=True).parse("links", SETTINGS)
    sessions = RedisClient().parse("sessions", SETTINGS)
    reports = [check(factory.name, factory) for factory in (links, sessions)]
    verdicts = [report.verdict() for report in reports]
    view = Group(*map(check_view, reports), *verdicts)
    picture("predis-check", "predis check production.ini", view)
    with working(links):
        watch = Watch("links", links)
        watch.look()
        time.sleep(2)
        picture("predis-top", "predis top production.ini links", top_view(watch.look()))


def picture(name: str, command: str, view: Any) -> None:
    """Write a picture of ``view`` in a terminal of 100 columns."""
    console = Console(
        file=StringIO(), record=True, width=100, force_terminal=True, color_system="truecolor"
    )
    console.print(view)
    svg = console.export_svg(title=command, code_format=SVG, unique_id=name)
    lines = [line.rstrip() for line in svg.splitlines()]
    (IMAGES / f"{name}.svg").write_text("\n".join(lines) + "\n")


@contextmanager
def working(factory: Any) -> Iterator[None]:
    """Let some threads use a client."""
    stopping = threading.Event()

    def use() -> None:
        client = factory.make_object_for_context("links", None)
        while not stopping.wait(random.random() / 20):
            code = f"link:{random.randrange(1000)}"
            client.set(code, "https://example.org/")
            for _ in range(4):
                client.get(code)
            client.hincrby(f"clicks:{code}", "total", 1)
            client.zincrby("popular", 1, code)
            client.rpush("clicks", code)
            client.lpop("clicks")

    threads = [threading.Thread(target=use) for _ in range(6)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stopping.set()
        for thread in threads:
            thread.join()


if __name__ == "__main__":
    main()
