"""``predis queue``: put a message on a queue, take one off, look at it."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from typing import Any

from redis.client import NEVER_DECODE
from rich.text import Text

from . import cli_durable
from .cli_application import Application, CommandError
from .cli_durable import AnyQueue
from .cli_output import Output, cell, lossless, table
from .durable import DurableMessageQueue
from .exceptions import TimedOutError

# What an action does: it gets the queue, its arguments, and where to write.
Act = Callable[[AnyQueue, argparse.Namespace, Output], None]
HELP = "put a message on a queue, take one off, look at it"
_ACTIONS = "put|get|peek|length|stats|dead|replay|discard"


def add_arguments(parser: argparse.ArgumentParser) -> list[argparse.ArgumentParser]:
    """Add the command's own; returns the actions' parsers, which are to have the common ones."""
    parser.add_argument("name", metavar="NAME", help="the message queue, request.NAME")
    actions = parser.add_subparsers(metavar=_ACTIONS, required=True)
    put = _action(actions, "put", "put a message on the queue", _put)
    put.add_argument(
        "message",
        metavar="MESSAGE",
        nargs="?",
        default="-",
        help="the message; without it, or with -, standard input as it is",
    )
    get = _action(actions, "get", "take a message off the queue; status 1 if there is none", _get)
    get.add_argument(
        "--timeout",
        metavar="SECONDS",
        type=seconds,
        default=0.0,
        help="how long to wait for one; by default not at all",
    )
    peek = _action(actions, "peek", "show the next messages and leave them there", _peek)
    peek.add_argument("--count", metavar="N", type=number, default=10, help="how many at most (10)")
    length = _action(actions, "length", "how many messages are on the queue", _length)
    durable = "of a durable queue: "
    stats = _action(actions, "stats", f"{durable}what is in it", cli_durable.stats)
    dead = _action(actions, "dead", f"{durable}show the dead letters", cli_durable.dead)
    dead.add_argument(
        "--count", metavar="N", type=number, default=100, help="how many at most (100)"
    )
    replay = _action(
        actions, "replay", f"{durable}put dead letters on it again", cli_durable.replay
    )
    discard = _action(actions, "discard", f"{durable}delete dead letters", cli_durable.discard)
    for moving in (replay, discard):
        moving.add_argument("ids", metavar="ID", nargs="*", help="of a dead letter")
        moving.add_argument("--all", action="store_true", help="all of them")
    return [put, get, peek, length, stats, dead, replay, discard]


def _action(actions: Any, name: str, text: str, act: Act) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = actions.add_parser(name, help=text, description=text)
    parser.set_defaults(act=act)
    parser.add_argument(
        "--client",
        metavar="CLIENT",
        help="the client that has the queue, where the application doesn't declare it",
    )
    return parser


def seconds(text: str) -> float:
    """A number of seconds from 0 on; raises what argparse expects."""
    value = float(text)
    if not 0 <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds from 0 on")
    return value


def number(text: str) -> int:
    """A whole number from 1 on; raises what argparse expects."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 1 on")
    return value


def run(application: Application, arguments: argparse.Namespace, output: Output) -> int:
    """Do what the action says with the queue."""
    queue = application.queue(arguments.name, arguments.client)
    arguments.act(queue, arguments, output)
    return 0


def _put(queue: AnyQueue, arguments: argparse.Namespace, output: Output) -> None:
    if arguments.message == "-":
        message = sys.stdin.buffer.read()
    else:
        message = os.fsencode(arguments.message)
    queue.put(message)
    data = {"queue": queue.queue, "bytes": len(message)}
    output.write(Text(f"put {len(message)} bytes on {queue.queue}"), data)


def _get(queue: AnyQueue, arguments: argparse.Namespace, output: Output) -> None:
    try:
        message = queue.get(timeout=arguments.timeout)
    except TimedOutError:
        raise CommandError(f"{queue.queue}: the queue is empty") from None
    output.write(cell(message), {"queue": queue.queue, **lossless(message)})


def _peek(queue: AnyQueue, arguments: argparse.Namespace, output: Output) -> None:
    if isinstance(queue, DurableMessageQueue):
        cli_durable.peek(queue, arguments.count, output)
        return
    options = {NEVER_DECODE: True}  # messages needn't be text
    messages = queue.client.execute_command(
        "LRANGE", queue.queue, 0, arguments.count - 1, **options
    )
    view = table("", "message", right=("",))
    for place, message in enumerate(messages, 1):
        view.add_row(str(place), cell(message))
    data = {"queue": queue.queue, "messages": [lossless(message) for message in messages]}
    output.write(view if messages else Text(f"{queue.queue}: the queue is empty"), data)


def _length(queue: AnyQueue, arguments: argparse.Namespace, output: Output) -> None:
    if isinstance(queue, DurableMessageQueue):
        length = queue.stats().length
    else:
        length = queue.client.llen(queue.queue)
    output.write(Text(str(length)), {"queue": queue.queue, "length": length})
