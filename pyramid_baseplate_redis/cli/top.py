"""``predis top``: what a client's servers do, again and again."""

from __future__ import annotations

import argparse
import contextlib
import time
from collections.abc import Iterator

from rich.live import Live
from rich.text import Text

from .application import Application
from .arguments import number
from .output import Output
from .top_sampling import Refresh, Watch
from .top_view import as_json, view

HELP = "watch what a client's servers do, until Ctrl+C"


def add_arguments(parser: argparse.ArgumentParser) -> list[argparse.ArgumentParser]:
    """Add the command's own; returns the parser that is to have the common ones."""
    parser.add_argument("name", metavar="NAME", help="the client, request.NAME")
    parser.add_argument(
        "--interval",
        metavar="SECONDS",
        type=_interval,
        default=1.0,
        help="how long to wait between two looks (1)",
    )
    parser.add_argument("--count", metavar="N", type=number, help="stop after N refreshes")
    return [parser]


def _interval(text: str) -> float:
    value = float(text)
    if not 0.1 <= value <= 3600:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds from 0.1 to 3600")
    return value


def run(application: Application, arguments: argparse.Namespace, output: Output) -> int:
    """Look until Ctrl+C, or ``--count`` times; then the status is 1 if a server failed."""
    watch = Watch(arguments.name, application.factory(arguments.name))
    failed = False
    with contextlib.suppress(KeyboardInterrupt):
        refreshes = _refreshes(watch, arguments.interval, arguments.count)
        if output.as_json or not output.console.is_terminal:
            for refresh in refreshes:
                output.write(view(refresh), as_json(refresh))
                failed = failed or refresh.failed
            return 1 if failed else 0
        start = Text(f"{arguments.name}: measuring for {arguments.interval:g} seconds")
        with Live(start, console=output.console, auto_refresh=False) as live:
            for refresh in refreshes:
                live.update(view(refresh, output.console.height), refresh=True)
                failed = failed or refresh.failed
        return 1 if failed else 0
    return 0  # Ctrl+C is the usual end


def _refreshes(watch: Watch, interval: float, count: int | None) -> Iterator[Refresh]:
    """Refreshes; a first look, which has nothing to compare with, isn't among them."""
    watch.look()
    done = 0
    while count is None or done < count:
        time.sleep(interval)
        yield watch.look()
        done += 1
