"""What ``predis queue`` does with durable queues."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from datetime import timedelta

from rich.text import Text

from .cli_application import CommandError
from .cli_output import Output, cell, lossless, printable, table
from .durable import DurableMessageQueue
from .queues import MessageQueue

AnyQueue = MessageQueue | DurableMessageQueue


def durable(queue: AnyQueue) -> DurableMessageQueue:
    """The queue, if it is a durable one.

    :raises CommandError: if it isn't.
    """
    if not isinstance(queue, DurableMessageQueue):
        raise CommandError(f"{queue.queue}: is no durable queue, so there is no such thing", 2)
    return queue


def peek(queue: DurableMessageQueue, count: int, output: Output) -> None:
    """Show the oldest messages, received ones included, and leave them there."""
    messages = queue.peek(count)
    view = table("id", "put at", "attempts", "consumer", "message", right=("attempts",))
    for message in messages:
        view.add_row(
            message.id,
            f"{message.enqueued_at:%Y-%m-%d %H:%M:%S}",
            str(message.attempts),
            cell(message.consumer or ""),
            cell(message.body),
        )
    shown = [
        {
            "id": message.id,
            "enqueued_at": message.enqueued_at.isoformat(),
            "attempts": message.attempts,
            "consumer": message.consumer,
            **lossless(message.body),
        }
        for message in messages
    ]
    nothing = Text(f"{queue.queue}: the queue is empty")
    output.write(view if messages else nothing, {"queue": queue.queue, "messages": shown})


def stats(queue: AnyQueue, arguments: argparse.Namespace, output: Output) -> None:
    """Show what is in the queue."""
    found = durable(queue).stats()
    view = table("length", "in flight", "oldest", "dead", right=("length", "in flight", "dead"))
    age = found.oldest_age
    oldest = "" if age is None else str(timedelta(seconds=round(age.total_seconds())))
    view.add_row(f"{found.length:,}", f"{found.in_flight:,}", oldest, f"{found.dead:,}")
    data = {
        "queue": queue.queue,
        "length": found.length,
        "in_flight": found.in_flight,
        "oldest_age": None if age is None else age.total_seconds(),
        "dead": found.dead,
    }
    output.write(view, data)


def dead(queue: AnyQueue, arguments: argparse.Namespace, output: Output) -> None:
    """Show the dead letters."""
    letters = durable(queue).dead_letters(arguments.count)
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


def replay(queue: AnyQueue, arguments: argparse.Namespace, output: Output) -> None:
    """Put dead letters on the queue again."""
    _move(durable(queue).replay, "replayed", queue, arguments, output)


def discard(queue: AnyQueue, arguments: argparse.Namespace, output: Output) -> None:
    """Delete dead letters."""
    _move(durable(queue).discard, "discarded", queue, arguments, output)


def _move(
    move: Callable[..., int],
    word: str,
    queue: AnyQueue,
    arguments: argparse.Namespace,
    output: Output,
) -> None:
    ids: list[str] = arguments.ids
    if bool(ids) == arguments.all:
        raise CommandError("write the identifiers of dead letters, or --all", 2)
    for entry_id in ids:
        milliseconds, _, sequence = entry_id.partition("-")
        if not (milliseconds.isdigit() and (sequence or "0").isdigit()):
            raise CommandError(f"{printable(entry_id)}: is no identifier of a dead letter", 2)
    count = move(*ids)
    text = f"{word} {count} dead letter{'' if count == 1 else 's'} of {queue.queue}"
    output.write(Text(text), {"queue": queue.queue, word: count})
    if count < len(ids):
        raise CommandError(f"{queue.queue}: {len(ids) - count} of them aren't there")
