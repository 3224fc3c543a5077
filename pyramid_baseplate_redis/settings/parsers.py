"""Parsers of setting values: time spans, whole numbers, booleans, choices, lists.

Each parser takes the raw value, which is text from an .ini file or already of the right type, and
returns the parsed one. It raises :class:`ValueError` if the value is malformed, with a message that
continues ``foo.some_key: ``.
"""

from __future__ import annotations

import os
import re
import ssl
from collections.abc import Callable, Iterable
from datetime import timedelta
from typing import Any, TypeVar

Parser = Callable[[Any], Any]
T = TypeVar("T")

_UNITS = {
    "millisecond": 1e-3, "milliseconds": 1e-3, "ms": 1e-3,
    "second": 1, "seconds": 1, "s": 1,
    "minute": 60, "minutes": 60, "min": 60,
    "hour": 3600, "hours": 3600, "h": 3600,
    "day": 86400, "days": 86400, "d": 86400,
}  # fmt: skip
_TIMESPAN = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*([A-Za-z]*)")
_LONGEST = timedelta(days=365)  # well below the limit of the operating system's timers
_EXAMPLES = 'write a number and a unit, such as "3 seconds" or "200 milliseconds"'
_PERCENTAGE = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*(%?)")
_PERCENTAGES = 'write a percentage from 0% to 100%, such as "1%" or "0.5%"'
_TRUE = frozenset({"true", "yes", "on", "1"})
_FALSE = frozenset({"false", "no", "off", "0"})
_COMMENT = re.compile(r"\s[#;]")


def Timespan(text: str | timedelta) -> timedelta:  # noqa: N802 (baseplate's name)
    """Parse a time span such as ``3 seconds``, ``200 milliseconds``, ``0.5 seconds`` or ``200ms``.

    :param text: a number and a unit: milliseconds (ms), seconds (s), minutes (min), hours (h) or
        days (d), singular or plural; a :class:`~datetime.timedelta` is returned unchanged.
    :raises ValueError: there is no unit, the number is negative or malformed, or the span is longer
        than a year.

    The name and the long forms of the units are those of ``baseplate.lib.config.Timespan``.
    """
    if isinstance(text, timedelta):
        span = text
    elif not isinstance(text, str):
        raise ValueError(f"{text!r} has no unit; {_EXAMPLES}")
    else:
        stripped = text.strip()
        match = _TIMESPAN.fullmatch(stripped)
        if match is None:
            if stripped.startswith("-") and _TIMESPAN.fullmatch(stripped[1:].lstrip()):
                raise ValueError(f"{stripped!r} is negative; {_EXAMPLES}")
            raise ValueError(f"{stripped!r} is not a time span; {_EXAMPLES}")
        number, unit = match.groups()
        if not unit:
            raise ValueError(f"{stripped!r} has no unit; {_EXAMPLES}")
        factor = _UNITS.get(unit.lower())
        if factor is None:
            raise ValueError(
                f"{stripped!r} has an unknown unit; the units are milliseconds, seconds, minutes, "
                "hours and days"
            )
        try:
            span = timedelta(seconds=float(number) * factor)
        except OverflowError:
            span = timedelta.max
    if span < timedelta(0):
        raise ValueError(f"{span!s} is negative; {_EXAMPLES}")
    if span > _LONGEST:
        raise ValueError("is longer than a year")
    return span


def positive_timespan(value: Any) -> timedelta:
    """Parse a time span that is longer than zero."""
    span = Timespan(value)
    if not span:
        raise ValueError("must be longer than zero")
    return span


def timespans(value: Any) -> tuple[timedelta, ...] | None:
    """Parse time spans with commas, line breaks or spaces between them, or ``none``."""
    if isinstance(value, str):
        if value.strip().lower() == "none":
            return None
        # A space separates only in front of a number: "1 second 5 seconds".
        value = re.split(r"\s*[,\n]\s*|\s+(?=[0-9])", value.strip())
    if not isinstance(value, (list, tuple)) or not value:
        raise ValueError(
            f"{value!r} is not a list of time spans; write time spans with commas between them, "
            'such as "1 second, 5 seconds, 1 minute", or none'
        )
    return tuple(Timespan(span) for span in value)


def percentage(value: Any) -> float:
    """Parse a percentage such as ``1%``, which needs its ``%``, as a fraction from 0 to 1."""
    stripped = value.strip() if isinstance(value, str) else value
    match = _PERCENTAGE.fullmatch(stripped) if isinstance(stripped, str) else None
    if match is None and not isinstance(value, (int, float)):
        if isinstance(stripped, str) and _PERCENTAGE.fullmatch(stripped.removeprefix("-").lstrip()):
            raise ValueError(f"{stripped!r} is negative; {_PERCENTAGES}")
        raise ValueError(f"{stripped!r} is not a percentage; {_PERCENTAGES}")
    if match is None or not match[2]:
        raise ValueError(f"{stripped!r} has no unit; {_PERCENTAGES}")
    fraction = float(match[1]) / 100
    if fraction > 1:
        raise ValueError(f"{stripped!r} is out of range; {_PERCENTAGES}")
    return fraction


def whole_number(least: int, most: int) -> Callable[[Any], int]:
    """Return a parser of whole numbers from ``least`` to ``most``."""
    allowed = f"write a whole number from {least} to {most}"

    def parse(value: Any) -> int:
        if isinstance(value, str):
            if not re.fullmatch(r"[+-]?[0-9]{1,18}", value.strip()):
                raise ValueError(f"{value.strip()!r} is not a whole number; {allowed}")
            value = int(value)
        if not isinstance(value, int) or isinstance(value, bool):
            raise ValueError(f"{value!r} is not a whole number; {allowed}")
        if not least <= value <= most:
            raise ValueError(f"{value} is out of range; {allowed}")
        return value

    return parse


def boolean(value: Any) -> bool:
    """Parse ``true``, ``yes``, ``on`` or ``1``, or their opposites, in any case."""
    if isinstance(value, bool):
        return value
    text = str(value).strip().lower()
    if text in _TRUE:
        return True
    if text in _FALSE:
        return False
    raise ValueError(f"{str(value).strip()!r} is neither true nor false; write true or false")


def choice(*allowed: str) -> Callable[[Any], str]:
    """Return a parser of one of the lower-case words ``allowed``, written in any case."""

    def parse(value: Any) -> str:
        text = str(value).strip().lower()
        if text not in allowed:
            raise ValueError(f"{str(value).strip()!r} is not one of {listed(allowed)}")
        return text

    return parse


def text(value: Any) -> str:
    """Parse a line of text that is not empty; white space around it is removed."""
    stripped = lines(value)
    problem = without_addition(stripped)[1]
    if problem:
        raise ValueError(problem)
    return stripped


def lines(value: Any) -> str:
    """Parse text that is not empty and may have several lines."""
    if not isinstance(value, str):
        raise ValueError("is not text")
    if not value.strip():
        raise ValueError("is empty")
    return value.strip()


def path(value: Any) -> str:
    """Parse a path, which may be an :class:`os.PathLike`."""
    return lines(os.fspath(value) if isinstance(value, os.PathLike) else value)


def without_addition(value: str) -> tuple[str, str]:
    """Return the part of a value before a comment or a line break, and the problem with the rest.

    An .ini file has comments only on lines of their own, and an indented line continues the value
    above it. Both texts are empty if there is no such rest.
    """
    comment = _COMMENT.search(value)
    if comment is not None:
        return value[: comment.start()], (
            "has a comment after the value; comments must stand on a line of their own"
        )
    first, line_break, _ = value.strip().partition("\n")
    if line_break:
        return first, (
            "has more than one line; an indented line continues the value above it, so start each "
            "setting at the beginning of a line"
        )
    return "", ""


def variable_name(value: Any) -> str:
    """Parse the name of an environment variable.

    The message does not quote the value, which may be a URL written here by mistake.
    """
    if not isinstance(value, str) or not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", value.strip()):
        raise ValueError("is not the name of an environment variable; write one such as REDIS_URL")
    return value.strip()


def path_of_url(value: Any) -> str:
    """Parse the path of a file that contains a URL.

    The message does not quote the value, which may be the URL itself.
    """
    name = path(value)
    if "://" in name:
        raise ValueError("is a URL; write the path of a file that contains the URL")
    return name


def http_url(value: Any) -> str:
    """Parse the beginning of an application's URLs, such as ``https://example.com/shop``."""
    url = text(value)
    if not re.fullmatch(r"https?://[^\s/?#@]+(/[^\s?#]*)?", url):
        raise ValueError("is not the URL of an application; write one such as https://example.com")
    return url.rstrip("/")


def secret(value: Any) -> str:
    """Parse a secret: unlike other text it is not stripped, since it may begin with a space."""
    if not isinstance(value, str):
        raise ValueError("is not text")
    if not value:
        raise ValueError("is empty")
    return value


def connection_name(value: Any) -> str:
    """Parse a name that CLIENT SETNAME accepts: printable ASCII without spaces."""
    name = text(value)
    if not re.fullmatch(r"[!-~]+", name):
        raise ValueError(f"{name!r} has a character that is not printable ASCII, or a space")
    return name


def command_names(value: Any) -> frozenset[str]:
    """Parse command names separated by commas or newlines; return them in upper case."""
    if isinstance(value, str):
        # Spaces do not separate names: "CONFIG GET" would exclude every GET.
        value = [name.strip() for name in re.split(r"[,\n]", value.strip())]
    if not isinstance(value, Iterable):
        raise ValueError(
            f"{value!r} is not a list of command names; write names with commas between them, "
            'such as "PING, PUBLISH"'
        )
    names = list(value)
    for name in names:
        if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z][A-Za-z0-9._-]*", name):
            raise ValueError(
                f"{name!r} is not a command name; write names with commas between them, "
                'such as "PING, PUBLISH"'
            )
    return frozenset(name.upper() for name in names)


def words(value: Any) -> list[str]:
    """Parse names separated by white space or commas."""
    if isinstance(value, str):
        if _COMMENT.search(f" {value}"):
            raise ValueError("has a comment; comments must stand on a line of their own")
        return re.split(r"[\s,]+", value.strip())
    names = list(value) if isinstance(value, Iterable) else [value]
    if not isinstance(value, Iterable) or not all(isinstance(name, str) for name in names):
        raise ValueError(
            f"{value!r} is not a list of names; write names with spaces or commas between them"
        )
    return names


def listed(names: Any) -> str:
    """Return names as a list in a sentence: ``a, b and c``."""
    *first, last = names
    return f"{', '.join(first)} and {last}" if first else str(last)


def tls_version(value: Any) -> ssl.TLSVersion:
    """Parse the lowest version of TLS that is allowed."""
    text = str(getattr(value, "name", value)).replace("_", ".")
    name = choice("tlsv1.2", "tlsv1.3")(text)
    return ssl.TLSVersion.TLSv1_2 if name == "tlsv1.2" else ssl.TLSVersion.TLSv1_3


def certificate_requirements(value: Any) -> str:
    """Parse how the server's certificate is verified."""
    if isinstance(value, ssl.VerifyMode):
        value = value.name.removeprefix("CERT_")
    return choice("none", "optional", "required")(value)
