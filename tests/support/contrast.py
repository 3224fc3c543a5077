"""The contrast of a page's texts, as the Web Content Accessibility Guidelines define it."""

from __future__ import annotations

import re
from dataclasses import dataclass

from playwright.sync_api import Page

# The color of each text that is shown, and the color of the first ancestor that has a background.
_TEXTS = """() => {
    const found = [];
    const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    while (walker.nextNode()) {
        const text = walker.currentNode.textContent.trim();
        const owner = walker.currentNode.parentElement;
        if (!text || !owner.checkVisibility()) continue;
        let behind = owner;
        const transparent = 'rgba(0, 0, 0, 0)';
        while (behind && getComputedStyle(behind).backgroundColor === transparent)
            behind = behind.parentElement;
        found.push([text, getComputedStyle(owner).color,
                    behind ? getComputedStyle(behind).backgroundColor : 'rgb(255, 255, 255)']);
    }
    return found;
}"""


@dataclass(frozen=True)
class Text:
    """A text of a page, and the ratio of its contrast."""

    text: str
    ratio: float


def texts(page: Page) -> list[Text]:
    """Return the texts that a page shows."""
    return [Text(text, contrast(color, behind)) for text, color, behind in page.evaluate(_TEXTS)]


def contrast(one: str, other: str) -> float:
    """Return the ratio of the contrast of two colors, between 1 and 21.

    :param one: as a browser computes it, such as ``rgb(31, 35, 40)``.
    """
    dark, light = sorted((_luminance(one), _luminance(other)))
    return (light + 0.05) / (dark + 0.05)


def _luminance(color: str) -> float:
    match = re.fullmatch(r"rgb\((\d+), (\d+), (\d+)\)", color)
    assert match is not None, f"{color} is not opaque"
    parts = [int(part) / 255 for part in match.groups()]
    red, green, blue = (
        part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue
