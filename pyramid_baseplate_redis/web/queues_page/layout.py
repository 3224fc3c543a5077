"""The parts that the pages have in common: the frame, tables, forms and blocks of a body."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING
from xml.etree.ElementTree import Element

from pyramid.csrf import get_csrf_token
from pyramid.interfaces import IDefaultCSRFOptions

from .body_text import MOST_SHOWN, body_text
from .html import document, element, preformatted
from .links import Links
from .style import STYLE_VERSION
from .wording import size

if TYPE_CHECKING:
    from pyramid.request import Request

Content = Element | str | None
QUEUES = "Queues"  #: the heading of the overview
_FORMAT_NAMES = {"json": "JSON", "text": "Text", "hex": "Hex"}


@dataclass(frozen=True)
class Page:
    """A page: its heading, the pages above it, and its content."""

    heading: str
    above: Sequence[tuple[str, str]]  #: the name and the path of each page above this one
    content: Sequence[Content]

    def render(self, links: Links) -> bytes:
        """Return the HTML document."""
        title = " - ".join([self.heading, *(name for name, _ in reversed(self.above))])
        style = links("style", {"v": STYLE_VERSION})
        head = element(
            "head",
            element("meta", charset="utf-8"),
            element("meta", name="viewport", content="width=device-width, initial-scale=1"),
            element("meta", name="color-scheme", content="light dark"),
            element("meta", name="robots", content="noindex"),
            element("title", title),
            element("link", rel="stylesheet", href=style),
        )
        items = [element("li", element("a", name, href=path)) for name, path in self.above]
        here = element("li", element("span", self.heading, aria_current="page"))
        breadcrumb = element("nav", element("ol", *items, here), aria_label="Breadcrumb")
        body = element(
            "body",
            element("a", "Skip to the content", class_="skip", href="#content"),
            element("header", breadcrumb) if self.above else None,
            element(
                "main", element("h1", self.heading), *self.content, id="content", tabindex="-1"
            ),
        )
        return document(element("html", head, body, lang="en"))


def above(links: Links, queue_name: str) -> list[tuple[str, str]]:
    """Return the pages above one of a queue's messages."""
    return [(QUEUES, links("overview")), (queue_name, links("queue", queue_name=queue_name))]


def section(heading: str, *content: Content) -> Element:
    """Return a part of a page with a heading."""
    return element("section", element("h2", heading), *content)


def note(*content: Content, kind: str | None = None, role: str | None = None) -> Element:
    """Return a paragraph.

    :param kind: ``done`` or ``error`` for a result that stands out.
    """
    return element("p", *content, class_=f"note {kind}" if kind else None, role=role)


def table(label: str, headings: Sequence[str], rows: Sequence[Sequence[Content]]) -> Element:
    """Return a table. On a narrow screen each row becomes a card.

    The roles are written out because a browser forgets them for a table that is laid out as cards.

    :param label: the table's name for screen readers.
    :param headings: the headings of the columns.
    :param rows: the cells of each row, the first of which is the row's heading.
    """
    head = element("tr", *(_heading(text) for text in headings), role="row")
    body = [element("tr", *_cells(headings, row), role="row") for row in rows]
    return element(
        "table",
        element("thead", head, role="rowgroup"),
        element("tbody", *body, role="rowgroup"),
        role="table",
        aria_label=label,
    )


def _heading(text: str) -> Element:
    return element("th", text, scope="col", role="columnheader")


def _cells(headings: Sequence[str], row: Sequence[Content]) -> list[Element]:
    # The heading is repeated in each cell for cards; the style sheet hides it in a table.
    first = element("th", row[0], scope="row", role="rowheader")
    others = [
        element("td", element("div", content), role="cell", data_label=heading or None)
        for heading, content in zip(headings[1:], row[1:], strict=True)
    ]
    return [first, *others]


def facts(items: Mapping[str, Content], class_: str = "facts") -> Element:
    """Return names and values as a list of terms."""
    pairs = [element("div", element("dt", name), element("dd", items[name])) for name in items]
    return element("dl", *pairs, class_=class_)


def form(
    request: Request, path: str, button: str, *, label: str | None = None, kind: str = "",
    fields: Mapping[str, str] | None = None,
) -> Element:  # fmt: skip
    """Return a form with one button, which sends the request's CSRF token.

    :param path: where it is posted to.
    :param button: the button's text.
    :param label: a longer text for screen readers.
    :param kind: ``danger`` for a button that deletes.
    :param fields: more hidden fields.
    """
    options = request.registry.queryUtility(IDefaultCSRFOptions)
    token = "csrf_token" if options is None else options.token
    hidden = {token: get_csrf_token(request), **(fields or {})}
    return element(
        "form",
        *(element("input", type="hidden", name=name, value=hidden[name]) for name in hidden),
        element("button", button, type="submit", class_=kind or None, aria_label=label),
        method="post",
        action=path,
    )


def actions(*content: Content) -> Element:
    """Return a row of buttons and links."""
    return element("div", *content, class_="actions")


def body_section(request: Request, links: Links, page: str, body: bytes) -> Element:
    """Return the body of a message, with a link for each format that it has.

    :param page: the page that shows the body; its query parameter ``as`` is the format.
    """
    shown = body_text(body, request.GET.get("as"))
    choices = [
        element(
            "a",
            _FORMAT_NAMES[name],
            href=links(page, {"as": name}),
            aria_current="true" if name == shown.format else None,
        )
        for name in shown.formats
    ]
    if not body:
        return section("Body", note("The body is empty."))
    cut = note(f"Only the beginning is shown: {MOST_SHOWN // 1024} kB.") if shown.is_cut else None
    return section(
        "Body",
        element("nav", size(len(body)), " as ", *choices, class_="formats", aria_label="Format"),
        cut,
        preformatted(shown.text),
    )
