"""Redis URLs: taking them apart, refusing what redis-py would misread, showing them safely.

redis-py's own ``parse_url`` ignores what it doesn't understand (``redis://h/abc`` is database 0),
reads ``?decode_responses=False`` as true, and its errors quote pieces of a password that holds a
``/``, ``#`` or ``?``. So no message here quotes any part of a URL but a known argument's name.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from urllib.parse import parse_qsl, quote, unquote, urlsplit

SCHEMES = {
    "redis": "redis",
    "rediss": "rediss",
    "valkey": "redis",
    "valkeys": "rediss",
    "unix": "unix",
    "embedded": "embedded",
}
MOST_DATABASES = 1_000_000  # no server is configured with more; a longer number is a mistake
_HOST = re.compile(r"[A-Za-z0-9._-]+|[0-9A-Fa-f:.]+(%[A-Za-z0-9._-]+)?")
_ENCODE = (
    'a "/", "#", "?", "@", "[", "]", "%" or white space in a password is written '
    "percent-encoded (%2F, %23, %3F, %40, %5B, %5D, %25, %20; in an .ini file each % is doubled)"
)


@dataclass(frozen=True)
class RedisURL:
    """The parts of a Redis URL; ``scheme`` is one of redis, rediss, unix and embedded."""

    scheme: str
    host: str = ""
    port: int | None = None
    path: str = ""
    db: int | None = None
    username: str | None = field(default=None, repr=False)
    password: str | None = field(default=None, repr=False)
    arguments: tuple[tuple[str, str], ...] = field(default=(), repr=False)


def has_redis_scheme(value: object) -> bool:
    """Whether a setting's value looks like a URL for us."""
    scheme, separator, _ = value.strip().partition("://") if isinstance(value, str) else ("",) * 3
    return bool(separator) and scheme.lower() in SCHEMES


def parse_url(text: object) -> RedisURL:
    """Take a Redis URL apart.

    :raises ValueError: if it isn't one; the text never contains any part of the URL.
    """
    if not isinstance(text, str):
        raise ValueError("is not text; write a URL such as redis://localhost:6379/0")
    if not text.strip():
        raise ValueError("is empty; write a URL such as redis://localhost:6379/0")
    text = text.strip()
    scheme, separator, rest = text.partition("://")
    if not separator or not re.fullmatch(r"[A-Za-z][A-Za-z0-9+.-]*", scheme):
        raise ValueError("is not a URL; write one such as redis://localhost:6379/0")
    known = SCHEMES.get(scheme.lower())
    if known is None:
        raise ValueError(f"has an unknown scheme; allowed are {', '.join(SCHEMES)}")
    if known == "embedded" and rest.startswith("/"):
        # A directory such as an .ini file's %(here)s, which nobody can encode there.
        rest = quote(rest, safe="/?=&%:")
    if re.search(r"[\x00-\x20\x7f]", rest):
        raise ValueError(f"contains white space or a control character; {_ENCODE}")
    if "#" in rest:
        raise ValueError(f'contains a "#"; {_ENCODE}')
    authority = re.split(r"[/?]", rest, maxsplit=1)[0]
    if "@" in rest[len(authority) :]:
        raise ValueError(f'contains an "@" behind the host name; {_ENCODE}')
    try:
        parts = urlsplit(f"{known}://{rest}")
        host, port = unquote(parts.hostname or ""), parts.port
        username, password = parts.username, parts.password
    except ValueError:
        # Python's message quotes the part that it couldn't read, which may be a password.
        raise ValueError(
            f"has a malformed host or port (a port is a number from 1 to 65535); {_ENCODE}"
        ) from None
    url = RedisURL(
        known,
        username=_decoded(username),
        password=_decoded(password),
        arguments=_arguments(parts.query),
    )
    path = unquote(parts.path)
    if known == "embedded":
        return replace(url, path=_directory(parts.netloc, path))
    if known == "unix":
        return replace(url, path=_socket_path(parts.netloc, path))
    if host and not _HOST.fullmatch(host):
        raise ValueError(f"has a malformed host name; {_ENCODE}")
    if port == 0:
        raise ValueError("has port 0; a port is a number from 1 to 65535")
    return replace(url, host=host or "localhost", port=port or 6379, db=_database(path))


def _decoded(text: str | None) -> str | None:
    if not text:
        return None
    try:
        return unquote(text, errors="strict")
    except UnicodeDecodeError:
        pass
    # Raised out here so that no chained exception carries the bytes.
    raise ValueError("has a user name or password that is not percent-encoded UTF-8")


def _directory(netloc: str, path: str) -> str:
    if netloc:
        raise ValueError(
            "has a host name or a password, which an embedded server has not; write "
            "embedded:// or embedded:///path/to/directory"
        )
    if path and not path.strip("/"):
        raise ValueError("names the root directory; write embedded:///path/to/directory")
    return "/" + path.strip("/") if path else ""


def _socket_path(netloc: str, path: str) -> str:
    if netloc.rpartition("@")[2]:
        raise ValueError("needs an absolute path with three slashes: unix:///path/to/redis.sock")
    if path in ("", "/"):
        raise ValueError("has no path; write unix:///path/to/redis.sock")
    return path


def _database(path: str) -> int | None:
    number = path[1:] if path.startswith("/") else path
    if not number:
        return None
    if not re.fullmatch(r"[0-9]{1,7}", number) or int(number) > MOST_DATABASES:
        raise ValueError(
            "has a path that is not a database number; write it like redis://localhost:6379/0"
        )
    return int(number)


def _arguments(query: str) -> tuple[tuple[str, str], ...]:
    if not query:
        return ()
    try:
        arguments = parse_qsl(query, keep_blank_values=True, strict_parsing=True)
    except ValueError:
        raise ValueError(f"has a malformed query; {_ENCODE}") from None
    names = [name for name, _ in arguments]
    if len(set(names)) < len(names):
        raise ValueError("has a query argument twice")
    return tuple(arguments)


def redacted(url: RedisURL, username: str | None, has_password: bool, db: int) -> str:
    """The URL as it may be shown: ``redis://user:***@host:6379/0``.

    A user name that stands alone is hidden too: ``redis://secret@host`` is a common slip.
    """
    authority = ""
    if has_password:
        authority = f"{username or ''}:***@"
    elif username:
        authority = "***@"
    if url.scheme == "unix":
        return f"unix://{authority}{url.path}?db={db}"
    if url.scheme == "embedded":
        return f"embedded://{url.path}?db={db}"
    host = f"[{url.host}]" if ":" in url.host else url.host
    return f"{url.scheme}://{authority}{host}:{url.port}/{db}"
