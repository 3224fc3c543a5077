"""The output of ``predis``: tables and colors for people, JSON for programs."""

from __future__ import annotations

import base64
import json
import os
from typing import Any, TextIO

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

# The width of a file or a pipe, which has no right edge, so that nothing is folded.
_WIDE = 1_000


class Output:
    """The destination of a command's output.

    :param stream: standard output.
    :param as_json: whether for machines: one JSON object a line.
    """

    def __init__(self, stream: TextIO, as_json: bool = False) -> None:
        self.as_json = as_json
        self._stream = stream
        self.console = make_console(stream)

    def write(self, view: Any, data: dict[str, Any]) -> None:
        """Write a result: ``view`` for people, or ``data`` as JSON."""
        if self.as_json:
            self._stream.write(json.dumps(data) + "\n")
        else:
            self.console.print(view, soft_wrap=isinstance(view, Text))
        self._stream.flush()


def make_console(stream: TextIO) -> Console:
    """Return a console that shows text as it is, in colors unless ``NO_COLOR`` is set."""
    console = Console(file=stream, highlight=False, markup=False, emoji=False)
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = _WIDE
    return console


def table(*columns: str, right: tuple[str, ...] = ()) -> Table:
    """A table that folds what is too wide for the terminal, and cuts nothing off.

    :param right: the columns with numbers.
    """
    made = Table(box=SIMPLE_HEAD, header_style="bold", padding=(0, 1, 0, 0))
    for column in columns:
        made.add_column(column, justify="right" if column in right else "left", overflow="fold")
    return made


def printable(data: bytes | str) -> str:
    """Text that does nothing to a terminal: what isn't UTF-8 or can't be printed is escaped."""
    text = data.decode("utf-8", "backslashreplace") if isinstance(data, bytes) else data
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode()
        for character in text
    )


def cell(data: bytes | str, style: str = "") -> Text:
    """A table's cell with text from elsewhere."""
    return Text(printable(data), style)


def failure(place: str, error: str) -> Text:
    """A line that says what failed, and why."""
    return cell(f"{place}: {error}", "red")


def lossless(data: bytes) -> dict[str, str | None]:
    """Bytes for JSON: as base64, and as text if they are UTF-8."""
    try:
        text = data.decode()
    except UnicodeDecodeError:
        text = None
    return {"text": text, "base64": base64.b64encode(data).decode("ascii")}
