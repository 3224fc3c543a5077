"""Commands as text for a developer: long keys and values are cut, secrets are hidden."""

from __future__ import annotations

import codecs
from collections.abc import Sequence
from typing import Any

from ..command_table import operation_name

MOST_CHARACTERS = 60  # of an argument
MOST_ARGUMENTS = 12  # of a command
HIDDEN = "***"
_ELLIPSIS = "…"
# Commands whose arguments may contain a password.
_BEARERS = frozenset({"ACL", "AUTH", "COMMAND", "CONFIG", "HELLO", "MIGRATE", "MODULE", "SENTINEL"})
_ESCAPES = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t"}


def bears_secrets(command: object) -> bool:
    """Return whether the arguments of a command are hidden, since they may contain a password.

    :param command: the command's name, as passed to redis-py.
    """
    return operation_name(command).partition(" ")[0] in _BEARERS


def shown_command(args: Sequence[Any]) -> str:
    """Return a command as one would type it in ``redis-cli``: ``SET greeting "hello world"``.

    The first 12 arguments are shown, up to 60 characters of each. If they may contain a password
    they are hidden: ``AUTH ***``.

    :param args: the command's name and arguments, as passed to redis-py.
    """
    name = operation_name(args[0])
    if bears_secrets(args[0]):
        return f"{cut(name)} {HIDDEN}"
    # redis-py splits the name at spaces, so it may contain arguments.
    shown = [cut(name), *_words_after(name, args[0])]
    shown += [shown_argument(argument) for argument in args[1 : MOST_ARGUMENTS + 1]]
    if len(args) > MOST_ARGUMENTS + 1:
        shown.append(f"{_ELLIPSIS} {len(args) - MOST_ARGUMENTS - 1} more")
    return " ".join(shown)


def _words_after(name: str, command: object) -> list[str]:
    text = command.decode("utf-8", "replace") if isinstance(command, bytes) else str(command)
    words = text[: MOST_CHARACTERS * MOST_ARGUMENTS].split()[len(name.split()) :]
    return [shown_argument(word) for word in words[:MOST_ARGUMENTS]]


def shown_argument(value: object) -> str:
    """Return an argument as text, in quotes if it has spaces, quotes or unprintable characters.

    Long arguments are cut first, so the rest of a large value costs nothing. Bytes that aren't
    UTF-8 are escaped.
    """
    if isinstance(value, memoryview):
        value = value.cast("B")[: 4 * MOST_CHARACTERS + 1].tobytes() if value.nbytes else b""
    if isinstance(value, (bytes, bytearray)):
        text = _decoded(bytes(value[: 4 * MOST_CHARACTERS + 1]))
    elif isinstance(value, (str, int, float)):
        text = "".join(map(_escaped, str(value)[: MOST_CHARACTERS + 1]))
    else:
        return f"<{type(value).__name__}>"  # redis-py refuses other types
    is_bare = text and not any(character in text for character in " \\'")
    shown = cut(text)
    return shown if is_bare else f'"{shown}"'


def _decoded(value: bytes) -> str:
    try:
        # If the value was cut, an incomplete last character is not an error.
        is_whole = len(value) <= 4 * MOST_CHARACTERS
        text, _ = codecs.utf_8_decode(value, "strict", is_whole)
    except UnicodeDecodeError:
        return "".join(
            _escaped(chr(byte)) if byte < 0x80 else f"\\x{byte:02x}"
            for byte in value[: MOST_CHARACTERS + 1]
        )
    return "".join(map(_escaped, text[: MOST_CHARACTERS + 1]))


def _escaped(character: str) -> str:
    if character in _ESCAPES:
        return _ESCAPES[character]
    if character.isprintable():
        return character
    return character.encode("unicode_escape").decode("ascii")


def cut(text: str, most: int = MOST_CHARACTERS) -> str:
    """Return a text of at most ``most`` characters; one that was cut ends with an ellipsis."""
    return text if len(text) <= most else text[: most - 1] + _ELLIPSIS
