"""A password with every special character, and a search for it in all its encodings."""

from __future__ import annotations

import base64
import html
import json
import string
from urllib.parse import quote, quote_plus

import pytest

# The words at both ends are what a text shows if it cuts the password or escapes its middle.
HEAD, TAIL = "Kreuzwort", "Querkopf"
PASSWORD = f"{HEAD}%{string.punctuation}%% {{}} %2F %s 'q' \"q\" ü€密🔑{TAIL}"
# Compared in lower case: the digits of "%2f" have no fixed case, and hosts are lowered.
_MARKS = {HEAD.lower(), TAIL.lower()}


def encodings(secret: str) -> dict[str, str]:
    """Return the forms in which a text may contain a secret, by name."""
    data = secret.encode()
    return {
        "raw": secret,
        "percent-encoded": quote(secret, safe=""),
        "percent-encoded with slashes": quote(secret),
        "form-encoded": quote_plus(secret),
        "repr": repr(secret)[1:-1],
        "ASCII": ascii(secret)[1:-1],
        "repr of a repr": repr(repr(secret))[1:-1],
        "repr of bytes": repr(data)[2:-1],
        "JSON": json.dumps(secret)[1:-1],
        "JSON in Unicode": json.dumps(secret, ensure_ascii=False)[1:-1],
        "HTML": html.escape(secret),
        "HTML without quotes": html.escape(secret, quote=False),
        "base64": base64.b64encode(data).decode(),
        "base64 for URLs": base64.urlsafe_b64encode(data).decode(),
        "hexadecimal": data.hex(),
    }


def found_in(text: str, secret: str = PASSWORD) -> list[str]:
    """Return the encodings of a secret that a text contains, or the words at its ends."""
    lowered = text.lower()
    found = [name for name, form in encodings(secret).items() if form.lower() in lowered]
    if secret is PASSWORD:
        found += [mark for mark in sorted(_MARKS) if mark in lowered]
    return found


def assert_hidden(text: str) -> None:
    """Fail if a text contains the password; the message has the text around it."""
    found = found_in(text)
    if found:
        lowered = text.lower()
        places = [lowered.find(mark) for mark in _MARKS if mark in lowered] or [0]
        place = max(0, min(places) - 300)
        pytest.fail(f"{found} in: ...{text[place : place + 800]}")
