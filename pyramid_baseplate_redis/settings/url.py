"""Redis URLs: parse them, refuse those that redis-py would misread, show them without passwords.

redis-py's own ``parse_url`` ignores parts that it doesn't understand (``redis://h/abc`` is database
0), reads ``?decode_responses=False`` as true, and its errors quote pieces of a password that
contains a ``/``, ``#`` or ``?``. A message here quotes nothing of a URL except the names of known
arguments.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from urllib.parse import parse_qsl, quote, unquote, urlsplit

from .fields import one_edit_apart
from .redaction import NotPickled, Secret

SCHEMES = {
    "redis": "redis",
    "rediss": "rediss",
    "valkey": "redis",
    "valkeys": "rediss",
    "unix": "unix",
    "embedded": "embedded",
    "redis+sentinel": "redis+sentinel",
    "rediss+sentinel": "rediss+sentinel",
    "redis+cluster": "redis+cluster",
    "rediss+cluster": "rediss+cluster",
}
SENTINEL_EXAMPLE = "redis+sentinel://host1:26379,host2:26379/mymaster/0"
CLUSTER_EXAMPLE = "redis+cluster://host1:7000,host2:7001"
MOST_DATABASES = 1_000_000  # no server is configured with more; a higher number is a mistake
_HOST = re.compile(r"[A-Za-z0-9._-]+|[0-9A-Fa-f:.]+(%[A-Za-z0-9._-]+)?")
_ENCODE = (
    'percent-encode a "/", "#", "?", "@", "[", "]", "%" or white space in a password '
    "(%2F, %23, %3F, %40, %5B, %5D, %25, %20; in an .ini file double each %)"
)
NOT_DATABASE_0 = "names a database other than 0, but a Cluster has only database 0"
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)(://|:/|//|:)")
_REDIS_PORT = re.compile(r"(?<!:):(6379|26379)(?![0-9])")
_MALFORMED_HOST = f"has a malformed host or port (a port is a number from 1 to 65535); {_ENCODE}"


@dataclass(frozen=True)
class RedisURL(NotPickled):
    """The parts of a Redis URL. ``repr()`` and ``dataclasses.asdict()`` show no secret.

    ``scheme`` is one of the values of :data:`SCHEMES`. For Sentinel and Cluster, ``hosts`` are the
    Sentinels or nodes to ask first, and ``host`` and ``port`` are those of the first of them.
    """

    scheme: str
    host: str = ""
    port: int | None = None
    path: str = ""
    db: int | None = None
    username: str | None = field(default=None, repr=False)
    password: str | None = field(default=None, repr=False)
    arguments: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    hosts: tuple[tuple[str, int], ...] = ()
    service: str = ""

    @property
    def is_tls(self) -> bool:
        """Return whether connections are encrypted."""
        return self.scheme.startswith("rediss")

    @property
    def is_sentinel(self) -> bool:
        """Return whether Sentinels are asked for the server's address."""
        return self.scheme.endswith("+sentinel")

    @property
    def is_cluster(self) -> bool:
        """Return whether the servers are the nodes of a Cluster."""
        return self.scheme.endswith("+cluster")

    @property
    def addresses(self) -> str:
        """The hosts and ports, as they are written in a URL."""
        hosts = self.hosts or ((self.host, self.port or 0),)
        return ",".join(
            f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host, port in hosts
        )


def has_redis_scheme(value: object) -> bool:
    """Return whether a setting's value starts with one of :data:`SCHEMES`."""
    scheme, separator, _ = value.strip().partition("://") if isinstance(value, str) else ("",) * 3
    return bool(separator) and scheme.lower() in SCHEMES


def scheme_problem(text: str) -> tuple[str, bool]:
    """Return why a text has none of the :data:`SCHEMES`, and whether it was meant to have one.

    The reason is empty if the text has one. It contains no part of the text.
    """
    text = text.strip()
    if has_redis_scheme(text):
        return "", True
    if has_redis_scheme(text.strip("\"'`")):
        return "has quotes around it; write it without them", True
    if text.startswith("$"):
        return (
            "is a variable of the shell, which is not replaced here; write its name, without the "
            '"$", into url_env',
            re.match(r"\$\{?\w*(redis|valkey)", text, re.IGNORECASE) is not None,
        )
    has_redis_port = _REDIS_PORT.search(text) is not None
    match = _SCHEME.match(text)
    scheme, separator = match.groups() if match is not None else ("", "")
    if scheme.lower() in SCHEMES:
        meant = has_redis_port or ("/" in separator and scheme.lower() != "unix")
        return 'has no "://" after the scheme; write it like redis://localhost:6379/0', meant
    near = next((name for name in SCHEMES if one_edit_apart(scheme.lower(), name)), "")
    if near and "/" in separator:
        return f"has an unknown scheme; did you mean {near}://?", near != "unix"
    if separator == "://":
        meant = has_redis_port and scheme.lower() in ("http", "https", "tcp")
        return f"has an unknown scheme; the schemes are {', '.join(SCHEMES)}", meant
    return "is not a URL; write one such as redis://localhost:6379/0", has_redis_port


def parse_url(text: object) -> RedisURL:
    """Parse a Redis URL.

    :raises ValueError: it is not a valid one; the message contains no part of the URL.
    """
    if not isinstance(text, str):
        raise ValueError("is not text; write a URL such as redis://localhost:6379/0")
    if not text.strip():
        raise ValueError("is empty; write a URL such as redis://localhost:6379/0")
    problem, _ = scheme_problem(text)
    if problem:
        raise ValueError(problem)
    scheme, _, rest = text.strip().partition("://")
    known = SCHEMES[scheme.lower()]
    if known == "embedded" and rest.startswith("/"):
        # A directory such as an .ini file's %(here)s, which cannot be percent-encoded there.
        rest = quote(rest, safe="/?=&%:")
    if re.search(r"[\x00-\x20\x7f]", rest):
        raise ValueError(f"contains white space or a control character; {_ENCODE}")
    if "#" in rest:
        raise ValueError(f'contains a "#"; {_ENCODE}')
    authority = re.split(r"[/?]", rest, maxsplit=1)[0]
    if "@" in rest[len(authority) :]:
        raise ValueError(f'contains an "@" after the host name; {_ENCODE}')
    try:
        parts = urlsplit(f"{known}://{rest}")
        username, password = parts.username, parts.password
    except ValueError:
        raise ValueError(_MALFORMED_HOST) from None
    url = RedisURL(
        known,
        # Without a password, the user name may be the password: redis://secret@host.
        username=_decoded(username, is_secret=not password),
        password=_decoded(password, is_secret=True),
        arguments=_arguments(parts.query),
    )
    path = unquote(parts.path)
    if known == "embedded":
        return replace(url, path=_directory(parts.netloc, path))
    if known == "unix":
        return replace(url, path=_socket_path(parts.netloc, path))
    hosts = parts.netloc.rpartition("@")[2]
    if url.is_sentinel or url.is_cluster:
        url = replace(url, hosts=_hosts(hosts, 26379 if url.is_sentinel else 6379))
        if len(set(url.hosts)) < len(url.hosts):
            raise ValueError("names a host twice")
        host, port = url.hosts[0]
    else:
        host, port = _host(hosts, 6379)
    url = replace(url, host=host, port=port)
    if url.is_sentinel:
        service, _, path = path.removeprefix("/").partition("/")
        if not service or service.isdigit():
            raise ValueError(f"has no service name; write it like {SENTINEL_EXAMPLE}")
        url = replace(url, service=service)
    url = replace(url, db=_database(path))
    if url.is_cluster and url.db:
        raise ValueError(NOT_DATABASE_0)
    return url


def _hosts(text: str, default_port: int) -> tuple[tuple[str, int], ...]:
    names = text.split(",")
    if len(names) > 1 and not all(names):
        raise ValueError("has a comma without a host name before or after it")
    return tuple(_host(name, default_port) for name in names)


def _host(text: str, default_port: int) -> tuple[str, int]:
    """Return a host and its port; the host is ``localhost`` if there is no name."""
    try:
        parts = urlsplit(f"redis://{text}")
        host, port = unquote(parts.hostname or ""), parts.port
    except ValueError:
        # Python's message quotes the part that it cannot parse, which may be a password.
        raise ValueError(_MALFORMED_HOST) from None
    if host and not _HOST.fullmatch(host):
        raise ValueError(f"has a malformed host name; {_ENCODE}")
    if port == 0:
        raise ValueError("has port 0; a port is a number from 1 to 65535")
    return host or "localhost", port or default_port


def _decoded(text: str | None, is_secret: bool) -> str | None:
    if not text:
        return None
    try:
        decoded = unquote(text, errors="strict")
        return Secret(decoded) if is_secret else decoded
    except UnicodeDecodeError:
        pass
    # Raised outside of the except clause: a chained exception would contain the bytes.
    raise ValueError("has a user name or password that is not percent-encoded UTF-8")


def _directory(netloc: str, path: str) -> str:
    if netloc:
        raise ValueError(
            "has a host name or a password, but an embedded server has neither; write "
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
    return tuple((name, Secret(value)) for name, value in arguments)


def redacted(url: RedisURL, username: str | None, has_password: bool, db: int) -> str:
    """Return the URL in the form that may be shown: ``redis://user:***@host:6379/0``.

    A user name without a password is hidden too, since ``redis://secret@host`` is a common mistake.
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
    service = f"/{url.service}" if url.is_sentinel else ""
    database = "" if url.is_cluster else f"/{db}"
    return f"{url.scheme}://{authority}{url.addresses}{service}{database}"
