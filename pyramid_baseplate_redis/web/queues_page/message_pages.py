"""The pages of a message and of a dead letter, and those that stand in for them."""

from __future__ import annotations

from typing import TYPE_CHECKING
from xml.etree.ElementTree import Element

from ...queues.messages import BODY, DeadLetter, QueuedMessage
from .body_text import excerpt
from .html import element, preformatted
from .layout import Content, Page, above, body_section, facts, note, section
from .letters import error_text, letter_actions, traceback_text
from .links import Links
from .wording import ABSENT, moment, number

if TYPE_CHECKING:
    from pyramid.request import Request

#: The number of dead letters and of messages that the pages show.
MOST_LETTERS = 100
MOST_MESSAGES = 20
_MOST_FIELDS = 50

_MISSING = {
    "dead letter": "It was replayed or discarded, or it is not among the oldest "
    f"{MOST_LETTERS} dead letters.",
    "message": f"It was processed, or it is not among the oldest {MOST_MESSAGES} messages.",
}


def message_page(request: Request, links: Links, name: str, message: QueuedMessage) -> Page:
    """Return the page with a message's body."""
    about: dict[str, Content] = {
        "Put at": moment(message.enqueued_at),
        "Attempts": number(message.attempts),
        "Consumer": message.consumer or ABSENT,
    }
    if message.due_at is not None:
        about["Due at"] = moment(message.due_at)
    content = [facts(about), body_section(request, links, "message", message.body)]
    return Page(f"Message {message.id}", above(links, name), content)


def letter_page(request: Request, links: Links, name: str, letter: DeadLetter) -> Page:
    """Return the page with a dead letter's error, traceback and body."""
    about: dict[str, Content] = {
        "Error": element(
            "span",
            element("span", letter.error, class_="error-text"),
            element("span", error_text(letter), class_="soft lines"),
        ),
        "Died at": moment(letter.died_at),
        "Attempts": number(letter.attempts),
        "Message": letter.message_id or ABSENT,
    }
    traceback = traceback_text(letter)
    content = [
        facts(about),
        letter_actions(request, links, letter),
        section("Traceback", preformatted(traceback)) if traceback else None,
        body_section(request, links, "letter", letter.body),
        _other_fields(letter),
    ]
    return Page(f"Dead letter {letter.id}", above(links, name), content)


def _other_fields(letter: DeadLetter) -> Element | None:
    """Return the fields beside the body: the trace context, or what another program wrote."""
    names = [name for name in letter.fields if name != BODY]
    if not names:
        return None
    values: dict[str, Content] = {
        excerpt(name): excerpt(letter.fields[name], 200) for name in names[:_MOST_FIELDS]
    }
    cut = f"Only {_MOST_FIELDS} of {len(names):,} are shown." if len(names) > _MOST_FIELDS else None
    return section("Other fields", facts(values), None if cut is None else note(cut))


def missing_page(links: Links, name: str, what: str) -> Page:
    """Return the page for a message or dead letter that is not there."""
    return Page(f"No such {what}", above(links, name), [note(_MISSING[what])])


def failure_page(links: Links, name: str, client: str, reason: str, has_acted: bool) -> Page:
    """Return the page for an error of the queue's server.

    :param has_acted: whether dead letters were being replayed or discarded.
    """
    content = [
        note(
            f"The Redis client {client} failed. ",
            element("span", reason, class_="soft"),
            kind="error",
            role="alert",
        ),
        note("Some dead letters may have been moved. Look at the queue before you try again.")
        if has_acted
        else None,
    ]
    return Page("Error from Redis", above(links, name), content)
