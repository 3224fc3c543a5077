"""Settings whose values are elsewhere: URLs in files and environment variables."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from .client import ClientSettings
from .parsers import without_addition

_A_URL = "a URL such as redis://localhost:6379/0"


def load_client_settings(app_config: Mapping[str, Any], prefix: str = "redis.") -> ClientSettings:
    """Read a client's settings, and its URL from the file or variable that they name.

    :raises ConfigurationError: as :meth:`ClientSettings.from_config`, or the URL cannot be read.
    """
    return ClientSettings.from_config(app_config, prefix, read_url)


def read_url(key: str, place: str, environ: Mapping[str, str] = os.environ) -> str:
    """Return the text of a URL in an environment variable or a file.

    :param key: ``url_env`` or ``url_file``.
    :param place: the variable's name, or the file's path.
    :param environ: the environment variables.
    :raises ValueError: there is no text. The message contains nothing that was read, and no path,
        since a password may have been written in its place.
    """
    if key == "url_env":
        where = f"the environment variable {place}"
        text = environ.get(place)
        if text is None:
            raise ValueError(f"{where} is not set; set it to {_A_URL}")
    else:
        where = "the file"
        text, reason = file_content(place)
        if reason:
            if problem := without_addition(place)[1]:
                raise ValueError(problem)
            raise ValueError(
                f"cannot read the file: {reason}; write the path of one that contains {_A_URL}"
            )
    if not text.strip():
        raise ValueError(f"{where} is empty; write {_A_URL} into it")
    if any("\ud800" <= character <= "\udfff" for character in text):
        raise ValueError(f"{where} is not UTF-8")  # os.environ escapes other bytes like this
    return text


def file_content(path: str) -> tuple[str, str]:
    """Return a file's text, or an empty one and the reason.

    An exception would be chained to the one that contains the path or the bytes.
    """
    try:
        with open(path, encoding="utf-8", newline="") as file:
            return file.read(), ""
    except (OSError, ValueError) as error:
        return "", getattr(error, "strerror", None) or type(error).__name__
