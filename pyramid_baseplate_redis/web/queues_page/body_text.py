"""The body of a message as text, as JSON with line breaks, or in hexadecimal."""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterator
from dataclasses import dataclass

#: The page shows this many bytes of a body, and this many characters of indented JSON.
MOST_SHOWN = 64 * 1024
_BYTES_PER_LINE = 16


@dataclass(frozen=True)
class BodyText:
    """A body in one of its formats."""

    format: str  #: the format that is shown: ``json``, ``text`` or ``hex``
    formats: tuple[str, ...]  #: all formats that the body can be shown in
    text: str
    is_cut: bool  #: whether the text is not the whole body


def body_text(body: bytes, wanted: str | None = None) -> BodyText:
    """Return a body in the format that was asked for, if it has that format.

    Otherwise it is JSON if the body is JSON, text if it is UTF-8, or else hexadecimal. A body
    longer than :data:`MOST_SHOWN` is cut, and is never shown as JSON.

    :param wanted: ``json``, ``text`` or ``hex``.
    """
    is_cut = len(body) > MOST_SHOWN
    start = body[:MOST_SHOWN]
    indented = None if is_cut else _indented(start)
    formats = ("text", "hex") if indented is None else ("json", "text", "hex")
    default = formats[0] if _is_text(start, is_cut) else "hex"
    chosen = default if wanted is None or wanted not in formats else wanted
    if chosen == "json" and indented is not None:
        return BodyText("json", formats, indented[:MOST_SHOWN], len(indented) > MOST_SHOWN)
    text = _hexadecimal(start) if chosen == "hex" else _decoded(start, is_cut, "replace")
    return BodyText(chosen, formats, text, is_cut)


def excerpt(body: bytes, most: int = 80) -> str:
    """Return the beginning of a body in one line, in hexadecimal if it is not text.

    :param most: the number of characters.
    """
    start = body[: 4 * most]
    is_cut = len(body) > len(start)
    if _is_text(start, is_cut):
        line = " ".join(_decoded(start, is_cut, "strict").split())
    else:
        line = start.hex(" ")
    return f"{line[:most]}…" if is_cut or len(line) > most else line


def _decoded(start: bytes, is_cut: bool, errors: str) -> str:
    # The cut may be inside of a character, which is left out then.
    return codecs.getincrementaldecoder("utf-8")(errors).decode(start, final=not is_cut)


def _is_text(start: bytes, is_cut: bool) -> bool:
    try:
        return "\0" not in _decoded(start, is_cut, "strict")
    except UnicodeDecodeError:
        return False


def _indented(body: bytes) -> str | None:
    """Return JSON with line breaks; ``None`` if the body is not JSON.

    A few kilobytes of nested lists would become megabytes of spaces, so the result ends soon after
    :data:`MOST_SHOWN` characters.
    """
    try:
        value = json.loads(body.decode("utf-8"), parse_constant=_refuse)
        text = ""
        for part in _parts(value):
            text += part
            if len(text) > MOST_SHOWN:
                break
    except (ValueError, RecursionError):
        return None
    return text


def _parts(value: object) -> Iterator[str]:
    return json.JSONEncoder(indent=2, ensure_ascii=False).iterencode(value)


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")


def _hexadecimal(data: bytes) -> str:
    lines = []
    for offset in range(0, len(data), _BYTES_PER_LINE):
        line = data[offset : offset + _BYTES_PER_LINE]
        letters = "".join(chr(byte) if 0x20 <= byte < 0x7F else "." for byte in line)
        lines.append(f"{offset:08x}  {line.hex(' '):<47}  {letters}")
    return "\n".join(lines)
