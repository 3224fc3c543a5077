"""Errors, log records and spans of a client that cannot use its server show no password."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Iterator

import pytest

from pyramid_baseplate_redis import ConfigurationError, RedisClient

from ..support.servers import RecordedSpans
from .clients import connected, error_of, shown_by_error, shown_by_spans
from .search import PASSWORD, assert_hidden, found_in
from .ways_in import STANDALONE, WAYS, Give


class Everything(logging.Handler):
    """Formats each record as a file would, and with all the record's attributes."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.texts += [self.format(record), repr(vars(record))]
        if record.exc_info and record.exc_info[1] is not None:
            error = record.exc_info[1]
            told = traceback.TracebackException.from_exception(error, capture_locals=True)
            self.texts += list(told.format())


@pytest.fixture
def logged() -> Iterator[list[str]]:
    """The texts of all loggers, at DEBUG."""
    handler = Everything()
    names = ["", "redis", "asyncio", *(n for n in logging.root.manager.loggerDict if "redis" in n)]
    before = {name: logging.getLogger(name).level for name in names}
    for name in names:
        logging.getLogger(name).setLevel(logging.DEBUG)
    logging.getLogger().addHandler(handler)
    yield handler.texts
    logging.getLogger().removeHandler(handler)
    for name, level in before.items():
        logging.getLogger(name).setLevel(level)


def test_the_traceback_of_a_leak_is_noticed() -> None:
    def connect() -> None:
        password = PASSWORD
        raise LookupError(len(password))

    with pytest.raises(LookupError) as caught:
        connect()
    assert found_in(shown_by_error(caught.value))


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("way", WAYS)
def test_an_error_of_connecting_hides_the_password(
    way: str, failing: str, given: Give, spans: RecordedSpans, logged: list[str]
) -> None:
    with connected(given(way, failing)) as factory:
        client = factory.make_object_for_context("foo", None)
        errors = [error_of(client, "GET", "key"), error_of(client, "GET", "key")]
    assert all(errors)
    assert_hidden("\n".join(shown_by_error(error) for error in errors if error is not None))
    assert spans.all
    assert_hidden(shown_by_spans(spans))
    assert_hidden("\n".join(logged))


@pytest.mark.parametrize("way", STANDALONE)
def test_a_client_that_logs_in_hides_the_password(
    way: str, accepting: str, given: Give, spans: RecordedSpans, logged: list[str]
) -> None:
    with connected(given(way, accepting)) as factory:
        client = factory.make_object_for_context("foo", None)
        assert client.ping()
        error = error_of(client, "GET", "key", "too many")
    assert error is not None
    assert_hidden(shown_by_error(error))
    assert_hidden(shown_by_spans(spans))
    assert_hidden("\n".join(logged))


@pytest.mark.parametrize(
    "settings",
    [
        {"foo.pasword": PASSWORD},
        {"foo.url_env": PASSWORD},
        {"foo.url_file": PASSWORD},
        {"foo.password": PASSWORD, "foo.password_file": "/run/redis"},
        {"foo.url": f"redis://:{PASSWORD}@localhost"},
        {"foo.url": "redis://user:other@localhost", "foo.password": PASSWORD},
        {"foo.socket_timeout": PASSWORD},
        {"foo.url": f"redis://localhost/{PASSWORD}"},
    ],
    ids=lambda settings: " ".join(settings),
)
def test_an_error_of_settings_hides_the_password(settings: dict[str, str]) -> None:
    known = {} if "foo.url_env" in settings or "foo.url_file" in settings else {"foo.url": "x"}
    with pytest.raises(ConfigurationError) as caught:
        RedisClient().parse("foo", {**known, **settings})
    assert_hidden("".join(traceback.format_exception(caught.value)))
