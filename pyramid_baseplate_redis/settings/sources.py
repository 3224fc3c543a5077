"""Values that stand elsewhere than in the settings: in files and environment variables."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from .client import ClientSettings

_A_URL = "a URL such as redis://localhost:6379/0"


def load_client_settings(app_config: Mapping[str, Any], prefix: str = "redis.") -> ClientSettings:
    """Read a client's settings, and its URL from wherever they say that it is.

    See :meth:`ClientSettings.from_config`, which reads nothing but the settings.
    """
    return ClientSettings.from_config(app_config, prefix, read_url)


def read_url(key: str, place: str, environ: Mapping[str, str] = os.environ) -> str:
    """The text of a URL that doesn't stand among the settings.

    :param key: ``url_env`` or ``url_file``.
    :param place: the variable's name, or the file's path.
    :raises ValueError: if there is none; the text has nothing of what was read, and not the path,
        which may be a password in its place.
    """
    if key == "url_env":
        where = f"the environment variable {place}"
        text = environ.get(place)
        if text is None:
            raise ValueError(f"{where} is not set; set it to {_A_URL}")
    else:
        where = "the file"
        text, reason = _content(place)
        if reason:
            raise ValueError(
                f"cannot read the file: {reason}; write the path of one that has {_A_URL} in it"
            )
    if not text.strip():
        raise ValueError(f"{where} is empty; write {_A_URL} into it")
    if any("\ud800" <= character <= "\udfff" for character in text):
        raise ValueError(f"{where} is not UTF-8")  # so Python shows other bytes in os.environ
    return text


def _content(path: str) -> tuple[str, str]:
    """A file's text, and why there is none.

    Not an exception: it would be chained to one that has the path or the bytes.
    """
    try:
        with open(path, encoding="utf-8", newline="") as file:
            return file.read(), ""
    except (OSError, ValueError) as error:
        return "", getattr(error, "strerror", None) or type(error).__name__
