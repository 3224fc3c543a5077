"""The overview of all queues, and the page of a queue."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING
from xml.etree.ElementTree import Element

from ...queues.messages import DeadLetter, QueuedMessage
from ...telemetry.stats import QueueStats
from .body_text import excerpt
from .html import element
from .layout import QUEUES, Content, Page, actions, facts, note, section, table
from .letters import VERBS, error_text, letter_actions
from .links import Links
from .reports import Listing, QueueReport
from .wording import ABSENT, counted, duration, moment, number, size

if TYPE_CHECKING:
    from pyramid.request import Request

_PARTICIPLES = ("replayed", "discarded")


def overview(links: Links, reports: Sequence[QueueReport]) -> Page:
    """Return the page with the numbers of all queues."""
    if not reports:
        return Page(QUEUES, [], [note("The application declares no message queues.")])
    errors: dict[tuple[str, str], list[str]] = {}
    for report in reports:
        if report.error is not None:
            errors.setdefault((report.client, report.error), []).append(report.name)
    failures = [
        note(
            f"The Redis client {client} failed for {', '.join(names)}. ",
            element("span", text, class_="soft"),
            kind="error",
            role="alert",
        )
        for (client, text), names in errors.items()
    ]
    headings = (
        "Queue", "Length", "In flight", "Delayed", "Waiting", "Oldest", "Dead letters", "Client",
    )  # fmt: skip
    rows = [_overview_row(links, report) for report in reports]
    return Page(QUEUES, [], [*failures, table("Queues", headings, rows)])


def _overview_row(links: Links, report: QueueReport) -> list[Content]:
    name: Content = report.name
    if report.is_durable:
        name = element("a", report.name, href=links("queue", queue_name=report.name))
    else:
        name = element("span", report.name, element("span", "a list", class_="soft"))
    if report.error is not None:
        unknown: list[Content] = [element("span", "unknown", class_="error-text"), *[ABSENT] * 5]
        return [name, *unknown, report.client]
    if report.stats is None:
        return [name, number(report.length), *[ABSENT] * 5, report.client]
    return [name, *_numbers(report.stats).values(), report.client]


def _numbers(stats: QueueStats) -> dict[str, Content]:
    return {
        "Length": number(stats.length),
        "In flight": number(stats.in_flight),
        "Delayed": number(stats.delayed),
        "Waiting": number(stats.waiting),
        "Oldest": duration(stats.oldest_age),
        "Dead letters": element("span", number(stats.dead), class_="dead" if stats.dead else None),
    }


def queue_page(
    request: Request, links: Links, name: str, stats: QueueStats, letters: Listing[DeadLetter],
    messages: Listing[QueuedMessage],
) -> Page:  # fmt: skip
    """Return the page with a queue's numbers, dead letters and oldest messages."""
    content = [
        _result(request),
        facts(_numbers(stats), "numbers"),
        section("Dead letters", *_letters(request, links, stats.dead, letters)),
        section(
            "Messages", *_messages(links, stats.length + stats.waiting + stats.delayed, messages)
        ),
    ]
    return Page(name, [(QUEUES, links("overview"))], content)


def _result(request: Request) -> Element | None:
    """Return a note about the action that led to this page, whose query has the number."""
    for participle in _PARTICIPLES:
        count = request.GET.get(participle, "")
        if count.isascii() and count.isdigit() and len(count) < 10:
            if int(count) == 0:
                return note("The dead letter no longer exists.", kind="done", role="status")
            text = f"{counted(int(count), 'dead letter')} {participle}."
            return note(text, kind="done", role="status")
    return None


def _letters(
    request: Request, links: Links, dead: int, letters: Listing[DeadLetter]
) -> list[Content]:
    if not letters.items:
        return [_nothing(letters.error)]
    shown = (
        f"The oldest {number(len(letters.items))} of {number(dead)}:"
        if dead > len(letters.items)
        else None
    )
    buttons = [
        element(
            "a", f"{verb} all", href=links("move_all", action=action),
            class_="button danger" if action == "discard" else "button",
        )
        for action, verb in VERBS.items()
    ]  # fmt: skip
    rows: list[list[Content]] = [
        [
            element(
                "span",
                element(
                    "a", letter.message_id or letter.id, href=links("letter", entry_id=letter.id)
                ),
                element("span", excerpt(letter.body), class_="soft"),
            ),
            element(
                "span",
                letter.error,
                element("span", excerpt(error_text(letter).encode(), 200), class_="soft"),
            ),
            number(letter.attempts),
            moment(letter.died_at),
            letter_actions(request, links, letter),
        ]
        for letter in letters.items
    ]
    headings = ("Message", "Error", "Attempts", "Died at", "")
    return [
        actions(*buttons),
        None if shown is None else note(shown),
        table("Dead letters", headings, rows),
    ]


def _put_and_due(message: QueuedMessage) -> Content:
    if message.due_at is None:
        return moment(message.enqueued_at)
    due = element("span", "due at ", moment(message.due_at), class_="soft")
    return element("span", moment(message.enqueued_at), due)


def _messages(links: Links, length: int, messages: Listing[QueuedMessage]) -> list[Content]:
    if not messages.items:
        return [_nothing(messages.error)]
    shown = f"The oldest {number(len(messages.items))} of {number(length)}:"
    rows: list[list[Content]] = [
        [
            element(
                "span",
                element("a", message.id, href=links("message", entry_id=message.id)),
                element("span", excerpt(message.body), class_="soft"),
            ),
            _put_and_due(message),
            number(message.attempts),
            message.consumer or ABSENT,
            size(len(message.body)),
        ]
        for message in messages.items
    ]
    headings = ("Message", "Put at", "Attempts", "Consumer", "Size")
    return [
        note(shown) if length > len(messages.items) else None,
        table("Messages", headings, rows),
    ]


def _nothing(error: str | None) -> Element:
    if error is None:
        return note("There are none.")
    return note("They cannot be shown. ", element("span", error, class_="soft"), kind="error")
