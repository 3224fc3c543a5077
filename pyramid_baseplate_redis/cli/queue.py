"""``predis queue``: put a message on a queue, take one off, look at it."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from redis.client import NEVER_DECODE
from rich.text import Text

from ..exceptions import TimedOutError
from ..queues.durable_queue import DurableMessageQueue
from ..queues.list_queue import MessageQueue
from .application import Application, CommandError
from .arguments import number, seconds
from .output import Output, cell, lossless, printable, table

AnyQueue = MessageQueue | DurableMessageQueue


# What an action does: it gets the queue, its arguments, and where to write.
Act = Callable[[AnyQueue, argparse.Namespace, Output], None]
HELP = "put a message on a queue, take one off, look at it"
_OF_DURABLE = "of a durable queue: "
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
    put.add_argument(
        "--allow-empty", action="store_true", help="put a message even if it has no bytes"
    )
    put.add_argument(
        "--delay", metavar="SECONDS", type=seconds, help=f"{_OF_DURABLE}when it may be received"
    )
    put.add_argument(
        "--unique",
        metavar="KEY",
        help=f"{_OF_DURABLE}put nothing while a message of the same key is on the queue",
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
    stats = _action(actions, "stats", f"{_OF_DURABLE}what is in it", _stats)
    dead = _action(actions, "dead", f"{_OF_DURABLE}show the dead letters", _dead)
    dead.add_argument(
        "--count", metavar="N", type=number, default=100, help="how many at most (100)"
    )
    replay = _action(actions, "replay", f"{_OF_DURABLE}put dead letters on it again", _replay)
    discard = _action(actions, "discard", f"{_OF_DURABLE}delete dead letters", _discard)
    for moving in (replay, discard):
        moving.add_argument("ids", metavar="ID", nargs="*", help="of a dead letter")
        moving.add_argument("--all", action="store_true", help="all of them")
    discard.add_argument(
        "--yes", action="store_true", help="with --all: don't ask before deleting all of them"
    )
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


def run(application: Application, arguments: argparse.Namespace, output: Output) -> int:
    """Do what the action says with the queue."""
    queue = application.queue(arguments.name, arguments.client)
    arguments.act(queue, arguments, output)
    return 0


def _put(queue: AnyQueue, arguments: argparse.Namespace, output: Output) -> None:
    if arguments.message == "-":
        if sys.stdin.isatty():
            sys.stderr.write("predis: reading the message from standard input, until Ctrl+D\n")
        message = sys.stdin.buffer.read()
    else:
        message = os.fsencode(arguments.message)
    if not message and not arguments.allow_empty:
        raise CommandError(
            f"{queue.queue}: the message is empty. Write one, or --allow-empty to put it", 2
        )
    data: dict[str, object] = {"queue": queue.queue, "bytes": len(message)}
    if arguments.delay is None and arguments.unique is None:
        queue.put(message)
    else:
        data["id"] = _durable(queue).put(message, delay=arguments.delay, unique=arguments.unique)
    output.write(Text(f"put {len(message)} bytes on {queue.queue}"), data)


def _get(queue: AnyQueue, arguments: argparse.Namespace, output: Output) -> None:
    try:
        message = queue.get(timeout=arguments.timeout)
    except TimedOutError:
        raise CommandError(f"{queue.queue}: the queue is empty") from None
    output.write(cell(message), {"queue": queue.queue, **lossless(message)})


def _peek(queue: AnyQueue, arguments: argparse.Namespace, output: Output) -> None:
    if isinstance(queue, DurableMessageQueue):
        _peek_durable(queue, arguments.count, output)
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


def _durable(queue: AnyQueue) -> DurableMessageQueue:
    """The queue, if it is a durable one.

    :raises CommandError: if it isn't.
    """
    if not isinstance(queue, DurableMessageQueue):
        raise CommandError(f"{queue.queue}: is not a durable queue, which this command needs", 2)
    return queue


def _peek_durable(queue: DurableMessageQueue, count: int, output: Output) -> None:
    """Show the oldest messages, received ones included, and leave them there."""
    messages = queue.peek(count)
    view = table("id", "put at", "due at", "attempts", "consumer", "message", right=("attempts",))
    for message in messages:
        view.add_row(
            message.id,
            f"{message.enqueued_at:%Y-%m-%d %H:%M:%S}",
            "" if message.due_at is None else f"{message.due_at:%Y-%m-%d %H:%M:%S}",
            str(message.attempts),
            cell(message.consumer or ""),
            cell(message.body),
        )
    shown = [
        {
            "id": message.id,
            "enqueued_at": message.enqueued_at.isoformat(),
            "due_at": None if message.due_at is None else message.due_at.isoformat(),
            "attempts": message.attempts,
            "consumer": message.consumer,
            **lossless(message.body),
        }
        for message in messages
    ]
    nothing = Text(f"{queue.queue}: the queue is empty")
    output.write(view if messages else nothing, {"queue": queue.queue, "messages": shown})


def _stats(queue: AnyQueue, arguments: argparse.Namespace, output: Output) -> None:
    """Show what is in the queue."""
    found = _durable(queue).stats()
    names = ("length", "in flight", "delayed", "waiting", "oldest", "dead")
    view = table(*names, right=tuple(name for name in names if name != "oldest"))
    age = found.oldest_age
    oldest = "" if age is None else str(timedelta(seconds=round(age.total_seconds())))
    view.add_row(
        f"{found.length:,}",
        f"{found.in_flight:,}",
        f"{found.delayed:,}",
        f"{found.waiting:,}",
        oldest,
        f"{found.dead:,}",
    )
    data = {
        "queue": queue.queue,
        "length": found.length,
        "in_flight": found.in_flight,
        "delayed": found.delayed,
        "waiting": found.waiting,
        "oldest_age": None if age is None else age.total_seconds(),
        "dead": found.dead,
    }
    output.write(view, data)


def _dead(queue: AnyQueue, arguments: argparse.Namespace, output: Output) -> None:
    """Show the dead letters."""
    letters = _durable(queue).dead_letters(arguments.count)
    view = table("id", "died at", "attempts", "error", "message", right=("attempts",))
    for letter in letters:
        view.add_row(
            letter.id,
            f"{letter.died_at:%Y-%m-%d %H:%M:%S}",
            str(letter.attempts),
            cell(letter.error),
            cell(letter.body),
        )
    shown = [
        {
            "id": letter.id,
            "message_id": letter.message_id,
            "died_at": letter.died_at.isoformat(),
            "attempts": letter.attempts,
            "error": letter.error,
            **lossless(letter.body),
        }
        for letter in letters
    ]
    nothing = Text(f"{queue.queue}: there are no dead letters")
    output.write(view if letters else nothing, {"queue": queue.queue, "dead_letters": shown})


def _replay(queue: AnyQueue, arguments: argparse.Namespace, output: Output) -> None:
    """Put dead letters on the queue again."""
    durable = _durable(queue)
    _move(durable.replay, "replayed", queue, _dead_letters(arguments), output)


def _discard(queue: AnyQueue, arguments: argparse.Namespace, output: Output) -> None:
    """Delete dead letters. Before all of them are deleted, the user confirms it."""
    durable = _durable(queue)
    ids = _dead_letters(arguments)
    if not ids and not arguments.yes:
        _confirm_discard(durable)
    _move(durable.discard, "discarded", queue, ids, output)


def _confirm_discard(queue: DurableMessageQueue) -> None:
    """Ask on standard error whether to delete all dead letters.

    :raises CommandError: the answer is no, or standard input is not a terminal.
    """
    if not sys.stdin.isatty():
        raise CommandError(
            f"{queue.queue}: discard --all deletes all dead letters for good. Write --yes as well, "
            "since standard input is not a terminal on which to ask",
            2,
        )
    question = f"predis: delete all {queue.stats().dead:,} dead letters of {queue.queue}? [y/N] "
    sys.stderr.write(question)
    sys.stderr.flush()
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise CommandError(f"{queue.queue}: nothing was deleted")


def _dead_letters(arguments: argparse.Namespace) -> list[str]:
    """The identifiers of the arguments; an empty list stands for all dead letters.

    :raises CommandError: there are neither identifiers nor ``--all``, there are both, or one is
        malformed.
    """
    ids: list[str] = arguments.ids
    if bool(ids) == arguments.all:
        raise CommandError("write either the identifiers of dead letters or --all", 2)
    for entry_id in ids:
        milliseconds, _, sequence = entry_id.partition("-")
        if not (milliseconds.isdigit() and (sequence or "0").isdigit()):
            raise CommandError(
                f"{printable(entry_id)}: is not the identifier of a dead letter. "
                "predis queue ... dead lists them",
                2,
            )
    return ids


def _move(
    move: Callable[..., int],
    word: str,
    queue: AnyQueue,
    ids: list[str],
    output: Output,
) -> None:
    """Call ``move`` with the identifiers, and write how many dead letters it moved."""
    count = move(*ids)
    text = f"{word} {count} dead letter{'' if count == 1 else 's'} of {queue.queue}"
    output.write(Text(text), {"queue": queue.queue, word: count})
    if count < len(ids):
        missing = len(ids) - count
        verb = "does" if missing == 1 else "do"
        raise CommandError(f"{queue.queue}: {missing} of them {verb} not exist")
