"""The actions on dead letters: their buttons, and the page that asks before all are moved."""

from __future__ import annotations

from typing import TYPE_CHECKING
from xml.etree.ElementTree import Element

from ...queues.messages import DeadLetter
from .html import element
from .layout import Content, Page, above, actions, form, note
from .links import Links
from .wording import counted

if TYPE_CHECKING:
    from pyramid.request import Request

VERBS = {"replay": "Replay", "discard": "Discard"}


def letter_actions(request: Request, links: Links, letter: DeadLetter) -> Element:
    """Return the buttons for one dead letter."""
    forms = [
        form(
            request, links("move", entry_id=letter.id, action=action), verb,
            label=f"{verb} {letter.message_id or letter.id}",
            kind="danger" if action == "discard" else "",
        )
        for action, verb in VERBS.items()
    ]  # fmt: skip
    return actions(*forms)


def confirmation_page(
    request: Request, links: Links, name: str, action: str, dead: int, has_changed: bool
) -> Page:
    """Return the page that asks whether to replay or discard all dead letters.

    :param dead: the number of dead letters. The form sends it back, so that the action is refused
        if there are others by then.
    :param has_changed: whether the number has changed since the page was shown before.
    """
    verb, letters = VERBS[action], counted(dead, "dead letter")
    if not dead:
        content: list[Content] = [note("There are no dead letters.")]
    else:
        effect = {
            "replay": f"{letters} of {name} will be put on the queue again as new messages.",
            "discard": f"{letters} of {name} will be deleted. They cannot be restored.",
        }[action]
        changed = "The number of dead letters has changed. Nothing was done."
        content = [
            note(changed, kind="error", role="alert") if has_changed else None,
            note(effect),
            actions(
                form(
                    request,
                    links("move_all", action=action),
                    f"{verb} {letters}",
                    kind="strong danger" if action == "discard" else "strong",
                    fields={"dead": str(dead)},
                ),
                element("a", "Cancel", class_="button", href=links("queue")),
            ),
        ]
    return Page(f"{verb} all dead letters", above(links, name), content)


def error_text(letter: DeadLetter) -> str:
    """Return the text of a dead letter's error; empty if it was not kept."""
    return letter.message


def traceback_text(letter: DeadLetter) -> str:
    """Return the traceback of a dead letter's error; empty if it was not kept."""
    return letter.traceback
