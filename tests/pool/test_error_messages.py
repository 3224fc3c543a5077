"""What is added to redis-py's errors: the client, the server and the likely cause."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import redis
from redis.exceptions import ClusterCrossSlotError, InvalidResponse, RedisClusterException

from pyramid_baseplate_redis.pool.error_messages import (
    add_context,
    address_of,
    explain_cross_slot,
    explain_unfound,
    hide_arguments,
)

PLAIN = redis.Connection(host="redis.example", port=7)
WITH_TLS = redis.SSLConnection(host="redis.example", port=7)
EXPECTS_TLS = "does the server expect TLS"
SPEAKS_TLS = "does the server speak TLS"


def text_of(error: Exception, connection: Any = PLAIN, *, unsent: bool = True) -> str:
    assert add_context(error, "foo", connection, unsent)
    return str(error)


def test_the_client_and_the_server_are_named() -> None:
    assert text_of(redis.TimeoutError("slow"), unsent=False) == "foo: slow (redis.example:7)"


def test_an_address_is_named_once() -> None:
    error = redis.ConnectionError("redis.example:7 refused")

    assert text_of(error, unsent=False) == "foo: redis.example:7 refused"


def test_an_error_without_text_has_its_class() -> None:
    assert text_of(redis.TimeoutError(), unsent=False) == "foo: TimeoutError (redis.example:7)"


def test_other_arguments_stay() -> None:
    error = redis.ConnectionError("lost", 5)
    text_of(error)

    assert error.args[1:] == (5,)


@pytest.mark.parametrize("text", ["foo: said before", "foo.socket_timeout: is wrong"])
def test_an_error_with_context_stays_as_it_is(text: str) -> None:
    error = redis.ConnectionError(text)

    assert not add_context(error, "foo", PLAIN, unsent=True)
    assert str(error) == text
    assert error.unsent is True  # type: ignore[attr-defined]


@pytest.mark.parametrize("error", [redis.ResponseError("no"), ValueError("no")])
def test_other_errors_stay_as_they_are(error: Exception) -> None:
    assert not add_context(error, "foo", PLAIN, unsent=True)
    assert (str(error), vars(error).get("unsent")) == ("no", None)


@pytest.mark.parametrize(
    ("connection", "error", "hint"),
    [
        (PLAIN, InvalidResponse("x"), EXPECTS_TLS),
        (PLAIN, redis.ConnectionError("Connection closed by server."), EXPECTS_TLS),
        (PLAIN, redis.ConnectionError("reset by peer"), EXPECTS_TLS),
        (PLAIN, redis.ConnectionError("refused"), ""),
        (PLAIN, redis.TimeoutError("slow"), ""),
        (PLAIN, redis.ConnectionError("WRONG_VERSION_NUMBER"), ""),
        (WITH_TLS, redis.TimeoutError("slow"), SPEAKS_TLS),
        (WITH_TLS, redis.ConnectionError("WRONG_VERSION_NUMBER"), SPEAKS_TLS),
        (WITH_TLS, redis.ConnectionError("refused"), ""),
        (WITH_TLS, redis.ConnectionError("reset by peer"), ""),
    ],
)
def test_what_seems_to_be_a_missing_or_superfluous_tls_is_asked_about(
    connection: Any, error: Exception, hint: str
) -> None:
    sent = text_of(type(error)(*error.args), connection, unsent=False)
    text = text_of(error, connection)

    assert "TLS" not in sent
    assert text.startswith(f"{sent}; {hint}") if hint else text == sent


@pytest.mark.parametrize(
    ("configured", "hint"),
    [
        ({}, "; the server wants a password: write foo.password or foo.password_file"),
        ({"username": "app"}, "; there is a user name, but no password. In a URL a password "),
        ({"password": "x"}, ""),
        ({"username": "app", "password": "x"}, ""),
        ({"credential_provider": object()}, ""),
    ],
)
def test_a_missing_password_is_pointed_out(configured: dict[str, Any], hint: str) -> None:
    connection = SimpleNamespace(host="h", port=1, **configured)

    text = text_of(redis.AuthenticationError("NOAUTH"), connection)

    assert text.startswith(f"foo: NOAUTH (h:1){hint}")
    assert bool(hint) is (text != "foo: NOAUTH (h:1)")


def test_the_address_is_a_path_or_a_host_and_a_port() -> None:
    assert address_of(redis.UnixDomainSocketConnection(path="/run/redis")) == "/run/redis"
    assert address_of(PLAIN) == "redis.example:7"
    assert address_of(object()) == ":"


def test_the_sentinels_that_were_asked_are_named() -> None:
    error = redis.ConnectionError()
    explain_unfound(error, "foo", "asked s1")

    assert str(error) == "foo: ConnectionError (asked s1)"
    assert error.unsent is True  # type: ignore[attr-defined]

    error = redis.ConnectionError("none", 5)
    explain_unfound(error, "foo", "asked s1")
    assert error.args[0].endswith(" (asked s1)")
    assert error.args[1:] == (5,)


@pytest.mark.parametrize(
    "error",
    [
        ClusterCrossSlotError("CROSSSLOT"),
        RedisClusterException("all keys must map to the same key slot"),
        RedisClusterException("must be in the same slot"),
        RedisClusterException("keys of different slots"),
    ],
)
def test_keys_of_different_slots_need_a_hash_tag(error: Exception) -> None:
    before = str(error)
    explain_cross_slot(error)
    explain_cross_slot(error)  # once is enough

    assert str(error).startswith(f"{before}; in a Cluster, keys that are used together")
    assert str(error).count("hash tag") == 1


@pytest.mark.parametrize(
    ("error_class", "text"), [(RedisClusterException, "down"), (ValueError, "same slot")]
)
def test_other_errors_need_no_hash_tag(error_class: type[Exception], text: str) -> None:
    error = error_class(text)
    explain_cross_slot(error)

    assert str(error) == text


def test_quoted_arguments_are_hidden() -> None:
    args = ("SET", "key", "s3cr3t")
    error = RedisClusterException(f"No way to dispatch {args}", 5)
    hide_arguments(error, args)

    assert error.args == ("No way to dispatch ('SET', ...)", 5)


@pytest.mark.parametrize(
    ("error_class", "text", "args"),
    [
        (RedisClusterException, "('PING',)", ("PING",)),
        (RedisClusterException, "another", ("SET", "key")),
        (ValueError, "('SET', 'key')", ("SET", "key")),
    ],
)
def test_texts_without_arguments_stay(
    error_class: type[Exception], text: str, args: tuple[str, ...]
) -> None:
    error = error_class(text)  # a new one: pytest may run a test again
    hide_arguments(error, args)

    assert error.args == (text,)
