"""The table in docs/settings.rst has every setting, with its type and its default."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import NamedTuple

from pyramid_baseplate_redis.settings.client import ClientSettings
from pyramid_baseplate_redis.settings.package import PackageSettings
from pyramid_baseplate_redis.settings.queue import QueueSettings
from pyramid_baseplate_redis.testing.external_server import CLIENT_KEY, URL_KEY

PAGE = (Path(__file__).parent.parent / "docs/settings.rst").read_text()
TYPES = {
    "timedelta": {"time"},
    "int": {"number"},
    "bool": {"boolean"},
    "float": {"percentage"},
    "str": {"text", "path", "name", "choice"},
    "ssl.TLSVersion": {"choice"},
    "frozenset[str]": {"commands"},
    "list[str]": {"words"},
    "tuple[timedelta, ...]": {"times"},
}
CLIENT = [item for item in dataclasses.fields(ClientSettings) if "parse" in item.metadata]
QUEUE = dataclasses.fields(QueueSettings)
PACKAGE = [item for item in dataclasses.fields(PackageSettings) if "parse" in item.metadata]
# Defaults that are described, not written as they would be in an .ini file.
DESCRIBED = {"", "the system's", "Python's", "no limit", "none", "all found"}


class Row(NamedTuple):
    type: str
    default: str


ROWS = {
    key: Row(kind.strip(), default.strip())
    for key, kind, default in re.findall(
        r"\* - ``([a-z_.]+)``\n +- (.*)\n +-(.*)\n +- ", PAGE.split("\nAll settings\n")[1]
    )
}


def field_of(key: str) -> dataclasses.Field[object] | None:
    prefix, _, name = key.partition(".")
    fields = {"foo": CLIENT, "jobs": QUEUE, "baseplate_redis": PACKAGE}[prefix]
    return next((item for item in fields if item.name == name), None)


def test_every_setting_has_one_row() -> None:
    client = {"foo.url", *(f"foo.{item.name}" for item in CLIENT)}
    queue = {f"jobs.{item.name}" for item in QUEUE}
    package = {f"baseplate_redis.{item.name}" for item in PACKAGE}
    assert set(ROWS) == client | queue | package | {URL_KEY, CLIENT_KEY}
    assert PAGE.count("   * - ``") == len(ROWS)


def test_types_are_those_of_the_code() -> None:
    for key, row in ROWS.items():
        if (field := field_of(key)) is not None:
            assert row.type in TYPES[str(field.type).removesuffix(" | None")], key


def test_defaults_are_those_of_the_code() -> None:
    for key, row in ROWS.items():
        field = field_of(key)
        if field is None or "parse" not in field.metadata:
            continue
        if row.default in DESCRIBED:
            assert not isinstance(field.default, int), key
        else:
            assert field.metadata["parse"](row.default) == field.default, key
