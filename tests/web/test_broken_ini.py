""".ini files with a mistake do not start silently, and those of other libraries start silently."""

from __future__ import annotations

import logging
import re
import textwrap
from pathlib import Path
from typing import Any

import plaster
import pytest
from plaster_pastedeploy import Loader
from pyramid.config import Configurator
from pyramid.exceptions import ConfigurationError

from pyramid_baseplate_redis.settings.discovery.clients import discovered_clients
from pyramid_baseplate_redis.settings.discovery.mistakes import check_prefixes
from pyramid_baseplate_redis.settings.sources import read_url

from ..support.configurators import refusal
from .ini_tables import malformed, meant_for_us
from .ini_tables.of_others import OF_OTHERS

LOGGER = "pyramid_baseplate_redis.web"
ERRORS = [*meant_for_us.ERRORS, *malformed.ERRORS]


def settings_of(directory: Path, text: str) -> dict[str, Any]:
    """The settings of an application, as pserve reads them from its .ini file."""
    file = directory / "app.ini"
    escaped = text.replace("%", "%%")
    file.write_text(f"[app:main]\nuse = egg:app\n{escaped}\n")
    found = dict(Loader(plaster.parse_uri(str(file))).get_settings("app:main"))
    del found["use"]
    return found


@pytest.fixture
def configured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return the Configurator of an .ini file's application."""
    for name, value in (
        ("V", "localhost:6379"),
        ("R", "redis://localhost"),
        ("P", "postgresql://localhost"),
    ):
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("NOT_SET", raising=False)

    def configured(text: str) -> Configurator:
        config = Configurator(settings=settings_of(tmp_path, text))
        config.include("pyramid_baseplate_redis")
        return config

    return configured


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]


def test_the_tables_are_long_enough() -> None:
    texts = [text for text, _ in [*ERRORS, *meant_for_us.WARNINGS]]
    assert len(set(texts)) == len(texts) >= 93
    assert len(LINES) >= 30


@pytest.mark.parametrize(("text", "said"), ERRORS, ids=repr)
def test_a_mistake_is_an_error_when_the_application_is_built(
    configured: Any, text: str, said: str
) -> None:
    error = refusal(configured(text))
    assert str(error).startswith(said)
    assert (error.__cause__, error.__context__) == (None, None)


@pytest.mark.parametrize(("text", "said"), meant_for_us.WARNINGS, ids=repr)
def test_settings_that_may_be_another_library_s_are_a_warning(
    configured: Any, caplog: pytest.LogCaptureFixture, text: str, said: str
) -> None:
    with caplog.at_level(logging.WARNING, LOGGER):
        configured(text).make_wsgi_app()
    assert [message.startswith(said) for message in warnings(caplog)].count(True) == 1


# All but misspelled forms of this package's own prefix, and a queue that is clearly one.
ABOUT_A_CLIENT = [
    text
    for text, _ in [*meant_for_us.ERRORS, *meant_for_us.WARNINGS]
    if not re.match("(pyramid_)?baseplate.?re", text) and ".durable" not in text
]


@pytest.mark.parametrize("text", ABOUT_A_CLIENT, ids=repr)
def test_with_the_clients_named_no_other_prefix_is_read(
    configured: Any, caplog: pytest.LogCaptureFixture, text: str
) -> None:
    with caplog.at_level(logging.WARNING, LOGGER):
        named = "baseplate_redis.clients = another\nanother.url = redis://h"
        configured(f"{text}\n{named}").make_wsgi_app()
    assert warnings(caplog) == []


@pytest.mark.parametrize("text", OF_OTHERS.values(), ids=OF_OTHERS)
def test_settings_of_other_libraries_are_left_alone(
    configured: Any, caplog: pytest.LogCaptureFixture, text: str
) -> None:
    with caplog.at_level(logging.WARNING, LOGGER):
        configured(f"{textwrap.dedent(text)}\nfoo.url = redis://h").make_wsgi_app()
    assert warnings(caplog) == []


# A lone "celery.queue = default" cannot be told from "jobs.queue = foo".
LINES = [
    line.strip()
    for text in OF_OTHERS.values()
    for line in text.split("\n")
    if line.strip() and ".queue = " not in line
]


@pytest.mark.parametrize("line", LINES)
def test_each_setting_of_another_library_is_left_alone(tmp_path: Path, line: str) -> None:
    settings = settings_of(tmp_path, f"{line}\nfoo.url = redis://h")
    assert discovered_clients(settings, None, read_url) == ["foo"]
    assert check_prefixes(settings, ["foo"], [], read_url) == []


SECRET = "correct-horse-battery"
WITH_A_SECRET = [
    f'foo.url = "redis://:{SECRET}@h"',
    f"foo.url = redi://:{SECRET}@h",
    f"foo.url = redis:/:{SECRET}@h",
    f"foo.url = :{SECRET}@h:6379",
    f"foo.url = ${{{SECRET}}}",
    f"foo.url = {SECRET}\nfoo.leak_warning = 1 second",
    f"foo.url = {SECRET}\nfoo.socket_timeout = 3",
    f"foo.url = redis://:{SECRET}@h  # x",
    f"foo.url = redis://h  # {SECRET}",
    f"foo.url = redis://h\n  foo.password = {SECRET}",
    f"foo.ulr = redis://:{SECRET}@h",
    f"foo.uri = redis://:{SECRET}@h",
    f"my-cache.url = redis://:{SECRET}@h",
    f"redis.cache.url = redis://:{SECRET}@h",
    f"_foo.url = redis://:{SECRET}@h",
    f"foo.password = {SECRET}\nfoo.leak_warning = 1 second",
    f"bar.url = redis://h\nba.password = {SECRET}",
    f"bar.url = redis://h\njobs.queue = {SECRET}",
    f"redis.password = {SECRET}\nredis.host = h",
    f"baseplate_redis.foo.url = redis://:{SECRET}@h",
]


@pytest.mark.parametrize("text", WITH_A_SECRET, ids=repr)
def test_nothing_that_is_said_has_a_value(
    configured: Any, caplog: pytest.LogCaptureFixture, text: str
) -> None:
    said = ""
    with caplog.at_level(logging.INFO, LOGGER):
        try:
            configured(text).make_wsgi_app()
        except ConfigurationError as error:
            said = str(error)
    said += "\n".join(caplog.messages)
    assert said
    assert SECRET not in said
