"""Builds HTML from elements, so that no text can become markup.

Only the serializer of :mod:`xml.etree.ElementTree` writes tags, and it escapes all text and all
attributes. There is no way to add a string that is already HTML.
"""

from __future__ import annotations

from xml.etree import ElementTree
from xml.etree.ElementTree import Element

# Characters that have no picture of their own, or change the direction of the text after them.
# Message bodies come from anywhere; the reader must see these.
_VISIBLE: dict[int, str] = {
    **{code: chr(0x2400 + code) for code in range(0x20) if chr(code) not in "\t\n"},
    0x7F: "\u2421",
    **{code: f"\\u{code:04x}" for code in (*range(0x202A, 0x202F), *range(0x2066, 0x206A))},
}


def element(tag: str, *children: Element | str | None, **attributes: str | None) -> Element:
    """Return an element.

    :param tag: neither ``script`` nor ``style``, whose text HTML does not escape.
    :param children: elements and texts in their order; ``None`` is left out.
    :param attributes: ``class_`` stands for ``class`` and ``data_label`` for ``data-label``;
        ``None`` is left out.
    """
    made = Element(tag)
    for name, value in attributes.items():
        if value is not None:
            made.set(name.rstrip("_").replace("_", "-"), visible(value))
    for child in children:
        if isinstance(child, str):
            _append_text(made, visible(child))
        elif child is not None:
            made.append(child)
    return made


def preformatted(text: str) -> Element:
    """Return a block that keeps the text's lines and spaces. A reader can scroll it by keyboard."""
    # A browser drops the first line break of the block.
    return element("pre", "\n" + text, tabindex="0")


def visible(text: str) -> str:
    """Replace control characters, which a browser drops or obeys, with visible ones."""
    return text.translate(_VISIBLE)


def document(root: Element) -> bytes:
    """Return a whole document as UTF-8. Lone surrogates become question marks."""
    text = ElementTree.tostring(root, encoding="unicode", method="html")
    return f"<!DOCTYPE html>\n{text}\n".encode("utf-8", "replace")


def _append_text(parent: Element, text: str) -> None:
    if len(parent):
        parent[-1].tail = (parent[-1].tail or "") + text
    else:
        parent.text = (parent.text or "") + text
