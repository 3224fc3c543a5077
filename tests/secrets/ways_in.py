"""Every way in which a client gets a password."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote, quote_plus

import pytest
from redis.credentials import CredentialProvider

from .search import PASSWORD

ENCODED = quote(PASSWORD, safe="")
VARIABLE = "TEST_SECRETS_REDIS_URL"


class Given(NamedTuple):
    """The settings and the keyword arguments of a client named ``foo``."""

    settings: dict[str, str]
    kwargs: dict[str, Any]


class Provider(CredentialProvider):
    """Credentials as of a secret store."""

    def get_credentials(self) -> tuple[str]:
        return (PASSWORD,)


Way = Callable[[str, Path, pytest.MonkeyPatch], Given]
Give = Callable[[str, str], Given]  # the fixture given()


def _settings(**settings: str) -> Given:
    return Given({f"foo.{key}": value for key, value in settings.items()}, {})


def _url(address: str) -> str:
    return f"redis://:{ENCODED}@{address}/0"


def _file(directory: Path, text: str) -> str:
    path = directory / "redis-file"
    path.write_text(text, encoding="utf-8")
    return str(path)


def _in_env(address: str, directory: Path, patch: pytest.MonkeyPatch) -> Given:
    patch.setenv(VARIABLE, _url(address))
    return _settings(url_env=VARIABLE)


def _plain(address: str) -> dict[str, str]:
    return {"foo.url": f"redis://{address}/0"}


WAYS: dict[str, Way] = {
    "url": lambda address, path, patch: _settings(url=_url(address)),
    "url with a user": lambda address, path, patch: _settings(
        url=f"redis://default:{ENCODED}@{address}/0"
    ),
    "url in place of a user": lambda address, path, patch: _settings(
        url=f"redis://{ENCODED}@{address}/0"
    ),
    "url argument": lambda address, path, patch: _settings(
        url=f"redis://{address}/0?password={quote_plus(PASSWORD)}"
    ),
    "password": lambda address, path, patch: _settings(
        url=f"redis://{address}/0", password=PASSWORD
    ),
    "password_file": lambda address, path, patch: _settings(
        url=f"redis://{address}/0", password_file=_file(path, f"{PASSWORD}\n")
    ),
    "url_file": lambda address, path, patch: _settings(url_file=_file(path, _url(address))),
    "url_env": _in_env,
    "keyword argument": lambda address, path, patch: Given(_plain(address), {"password": PASSWORD}),
    "credential provider": lambda address, path, patch: Given(
        _plain(address), {"credential_provider": Provider()}
    ),
    "cluster url": lambda address, path, patch: _settings(
        url=f"redis+cluster://:{ENCODED}@{address}"
    ),
    "url of Sentinel": lambda address, path, patch: _settings(
        url=f"redis+sentinel://:{ENCODED}@{address}/main"
    ),
    "sentinel_password": lambda address, path, patch: _settings(
        url=f"redis+sentinel://{address}/main", sentinel_password=PASSWORD
    ),
    "sentinel_password_file": lambda address, path, patch: _settings(
        url=f"redis+sentinel://{address}/main", sentinel_password_file=_file(path, PASSWORD)
    ),
}
# The ways that reach a standalone server with the password as its default user's.
STANDALONE = [
    name
    for name in WAYS
    if "entinel" not in name and name not in ("cluster url", "url in place of a user")
]
