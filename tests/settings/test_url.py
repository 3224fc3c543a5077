"""Redis URLs: every form that is read, every one that is refused, and how they are shown."""

from __future__ import annotations

import contextlib
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyramid_baseplate_redis.settings.url import (
    SCHEMES,
    RedisURL,
    has_redis_scheme,
    parse_url,
    redacted,
)

ENCODE = (
    'percent-encode a "/", "#", "?", "@", "[", "]", "%" or white space in a password '
    "(%2F, %23, %3F, %40, %5B, %5D, %25, %20; in an .ini file double each %)"
)
PORT = "has a malformed host or port (a port is a number from 1 to 65535)"
NO_SLASHES = 'has no "://" after the scheme; write it like redis://localhost:6379/0'
NEAR = "has an unknown scheme; did you mean"
QUOTES = "has quotes around it; write it without them"
VARIABLE = (
    'is a variable of the shell, which is not replaced here; write its name, without the "$", into '
    "url_env"
)
NOT_A_URL = "is not a URL; write one such as redis://localhost:6379/0"
NOT_A_DATABASE = "has a path that is not a database number; write it like redis://localhost:6379/0"
EMPTY = "is empty; write a URL such as redis://localhost:6379/0"
SCHEME = (
    "has an unknown scheme; the schemes are redis, rediss, valkey, valkeys, unix, embedded, "
    "redis+sentinel, rediss+sentinel, redis+cluster, rediss+cluster"
)
NO_SERVICE = (
    "has no service name; write it like redis+sentinel://host1:26379,host2:26379/mymaster/0"
)
COMMA = "has a comma without a host name before or after it"
DATABASE_0 = "names a database other than 0, but a Cluster has only database 0"
NO_HOST = (
    "has a host name or a password, but an embedded server has neither; write embedded:// or "
    "embedded:///path/to/directory"
)


@pytest.mark.parametrize(
    ("text", "url"),
    [
        pytest.param("redis://h", RedisURL("redis", "h", 6379), id="the port's default"),
        pytest.param("redis://h:7/3", RedisURL("redis", "h", 7, db=3), id="port and database"),
        pytest.param("redis://h:7/", RedisURL("redis", "h", 7), id="an empty path"),
        pytest.param("redis://h:/1", RedisURL("redis", "h", 6379, db=1), id="an empty port"),
        pytest.param("redis://", RedisURL("redis", "localhost", 6379), id="nothing"),
        pytest.param("redis://:7", RedisURL("redis", "localhost", 7), id="only a port"),
        pytest.param("redis:///2", RedisURL("redis", "localhost", 6379, db=2), id="no host"),
        pytest.param("redis://h/%31", RedisURL("redis", "h", 6379, db=1), id="encoded path"),
        pytest.param("redis://h?", RedisURL("redis", "h", 6379), id="an empty query"),
        pytest.param("rediss://h", RedisURL("rediss", "h", 6379), id="TLS"),
        pytest.param("valkey://h", RedisURL("redis", "h", 6379), id="valkey"),
        pytest.param("valkeys://h", RedisURL("rediss", "h", 6379), id="valkey with TLS"),
        pytest.param("REDIS://Example", RedisURL("redis", "example", 6379), id="upper case"),
        pytest.param("  redis://h ", RedisURL("redis", "h", 6379), id="space around it"),
        pytest.param(
            "redis://my-host_1.lan.", RedisURL("redis", "my-host_1.lan.", 6379), id="dots"
        ),
        pytest.param("redis://127.0.0.1", RedisURL("redis", "127.0.0.1", 6379), id="IPv4"),
        pytest.param("redis://[::1]:7/1", RedisURL("redis", "::1", 7, db=1), id="IPv6"),
        pytest.param("redis://[::1]", RedisURL("redis", "::1", 6379), id="IPv6 without a port"),
        pytest.param("redis://:pw@h", RedisURL("redis", "h", 6379, password="pw"), id="password"),
        pytest.param("redis://u@h", RedisURL("redis", "h", 6379, username="u"), id="a user name"),
        pytest.param(
            "redis://u:pw@h",
            RedisURL("redis", "h", 6379, username="u", password="pw"),
            id="a user name and a password",
        ),
        pytest.param("redis://:@h", RedisURL("redis", "h", 6379), id="an empty password"),
        pytest.param(
            "redis://:a%2Fb%40%25@h",
            RedisURL("redis", "h", 6379, password="a/b@%"),
            id="an encoded password",
        ),
        pytest.param(
            "redis://:a:b@h", RedisURL("redis", "h", 6379, password="a:b"), id="a colon in it"
        ),
        pytest.param(
            "redis://h?db=2&protocol=3",
            RedisURL("redis", "h", 6379, arguments=(("db", "2"), ("protocol", "3"))),
            id="query arguments",
        ),
        pytest.param(
            "redis+sentinel://u:pw@one:1,two,[::1]:3/mymaster/2",
            RedisURL(
                "redis+sentinel",
                "one",
                1,
                db=2,
                username="u",
                password="pw",
                hosts=(("one", 1), ("two", 26379), ("::1", 3)),
                service="mymaster",
            ),
            id="Sentinels",
        ),
        pytest.param(
            "rediss+sentinel:///my%20service",
            RedisURL(
                "rediss+sentinel",
                "localhost",
                26379,
                hosts=(("localhost", 26379),),
                service="my service",
            ),
            id="a Sentinel, TLS",
        ),
        pytest.param(
            "redis+cluster://:p,w@one:7000,two",
            RedisURL(
                "redis+cluster",
                "one",
                7000,
                password="p,w",
                hosts=(("one", 7000), ("two", 6379)),
            ),
            id="a Cluster",
        ),
        pytest.param(
            "rediss+cluster://one/0",
            RedisURL("rediss+cluster", "one", 6379, db=0, hosts=(("one", 6379),)),
            id="a Cluster, TLS",
        ),
        pytest.param("unix:///run/r.sock", RedisURL("unix", path="/run/r.sock"), id="unix"),
        pytest.param("unix:///a%20b", RedisURL("unix", path="/a b"), id="unix, encoded"),
        pytest.param(
            "unix://u:pw@/run/r.sock",
            RedisURL("unix", path="/run/r.sock", username="u", password="pw"),
            id="unix with a password",
        ),
        pytest.param(
            "unix:///r.sock?db=3",
            RedisURL("unix", path="/r.sock", arguments=(("db", "3"),)),
            id="unix with a database",
        ),
        pytest.param("embedded://", RedisURL("embedded"), id="embedded"),
        pytest.param(
            "embedded:///d", RedisURL("embedded", path="/d"), id="embedded in a directory"
        ),
        pytest.param(
            "embedded:///d/", RedisURL("embedded", path="/d"), id="embedded, with a slash"
        ),
    ],
)
def test_a_url_is_taken_apart(text: str, url: RedisURL) -> None:
    assert parse_url(text) == url


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param("", EMPTY, id="empty"),
        pytest.param("  ", EMPTY, id="white space"),
        pytest.param("localhost", NOT_A_URL, id="a host name"),
        pytest.param("localhost:6379", NOT_A_URL, id="a host name and a port"),
        pytest.param("redis:/h", NO_SLASHES, id="one slash"),
        pytest.param("redis:h", NO_SLASHES, id="no slash"),
        pytest.param("redis", NOT_A_URL, id="only a scheme"),
        pytest.param("://h", NOT_A_URL, id="no scheme"),
        pytest.param("1redis://h", NOT_A_URL, id="a digit before the scheme"),
        pytest.param("http://h", SCHEME, id="http"),
        pytest.param("reddis://h", f"{NEAR} redis://?", id="a scheme spelled wrongly"),
        pytest.param("redi:/h", f"{NEAR} redis://?", id="a scheme spelled wrongly, one slash"),
        pytest.param("redis-sentinel://h", f"{NEAR} redis+sentinel://?", id="sentinel"),
        pytest.param('"redis://h"', QUOTES, id="double quotes"),
        pytest.param("'redis://h'", QUOTES, id="single quotes"),
        pytest.param("redis//h", NO_SLASHES, id="no colon"),
        pytest.param("$REDIS_URL", VARIABLE, id="a variable"),
        pytest.param("${REDIS_URL}", VARIABLE, id="a variable in braces"),
        pytest.param("redis+sentinel://h", NO_SERVICE, id="no service"),
        pytest.param("redis+sentinel://h/", NO_SERVICE, id="an empty service"),
        pytest.param("redis+sentinel://h/0", NO_SERVICE, id="a database in place of the service"),
        pytest.param("redis+sentinel://h/mymaster/abc", NOT_A_DATABASE, id="service, no database"),
        pytest.param("redis+sentinel://a,,b/mymaster", COMMA, id="two commas"),
        pytest.param("redis+cluster://a,", COMMA, id="a comma at the end"),
        pytest.param("redis+cluster://a,b,a:6379", "names a host twice", id="a host twice"),
        pytest.param("redis+cluster://a:x,b", f"{PORT}; {ENCODE}", id="one malformed port"),
        pytest.param(
            "redis+cluster://a,b:0",
            "has port 0; a port is a number from 1 to 65535",
            id="one port 0",
        ),
        pytest.param("redis+cluster://a/1", DATABASE_0, id="a Cluster's database"),
        pytest.param("redis://h:abc", f"{PORT}; {ENCODE}", id="a port of letters"),
        pytest.param("redis://h:70000", f"{PORT}; {ENCODE}", id="a port too large"),
        pytest.param("redis://h:-1", f"{PORT}; {ENCODE}", id="a negative port"),
        pytest.param("redis://h:0", "has port 0; a port is a number from 1 to 65535", id="port 0"),
        pytest.param("redis://::1:6379", f"{PORT}; {ENCODE}", id="IPv6 without brackets"),
        pytest.param("redis://[::1", f"{PORT}; {ENCODE}", id="IPv6 with one bracket"),
        pytest.param("redis://a,b", f"has a malformed host name; {ENCODE}", id="two hosts"),
        pytest.param("redis://h\\x", f"has a malformed host name; {ENCODE}", id="a backslash"),
        pytest.param("redis://münchen", f"has a malformed host name; {ENCODE}", id="not ASCII"),
        pytest.param("redis://h%20h", f"has a malformed host name; {ENCODE}", id="encoded space"),
        pytest.param("redis://h/1/2", NOT_A_DATABASE, id="two databases"),
        pytest.param("redis://h/1/", NOT_A_DATABASE, id="a slash behind the database"),
        pytest.param("redis://h//1", NOT_A_DATABASE, id="two slashes"),
        pytest.param("redis://h/abc", NOT_A_DATABASE, id="a database of letters"),
        pytest.param("redis://h/-1", NOT_A_DATABASE, id="a negative database"),
        pytest.param("redis://h/1.0", NOT_A_DATABASE, id="a fraction"),
        pytest.param("redis://h/1000001", NOT_A_DATABASE, id="a database too large"),
        pytest.param("redis://h/99999999", NOT_A_DATABASE, id="a database much too large"),
        pytest.param("redis://h#1", f'contains a "#"; {ENCODE}', id="a fragment"),
        pytest.param(
            "redis://h 1",
            f"contains white space or a control character; {ENCODE}",
            id="a space inside",
        ),
        pytest.param(
            "redis://h\n/1",
            f"contains white space or a control character; {ENCODE}",
            id="a line break inside",
        ),
        pytest.param(
            "redis://:a/b@h", f'contains an "@" after the host name; {ENCODE}', id="raw /"
        ),
        pytest.param(
            "redis://:a?b@h", f'contains an "@" after the host name; {ENCODE}', id="raw ?"
        ),
        pytest.param("redis://:a#b@h", f'contains a "#"; {ENCODE}', id="raw #"),
        pytest.param(
            "redis://:a b@h",
            f"contains white space or a control character; {ENCODE}",
            id="raw space",
        ),
        pytest.param("redis://h?a", f"has a malformed query; {ENCODE}", id="no value"),
        pytest.param("redis://h?db=1&", f"has a malformed query; {ENCODE}", id="an empty argument"),
        pytest.param("redis://h?db=1&db=1", "has a query argument twice", id="one twice"),
        pytest.param("unix://", "has no path; write unix:///path/to/redis.sock", id="no path"),
        pytest.param("unix:///", "has no path; write unix:///path/to/redis.sock", id="root"),
        pytest.param(
            "unix://run/r.sock",
            "needs an absolute path with three slashes: unix:///path/to/redis.sock",
            id="two slashes before a path",
        ),
        pytest.param("embedded://h", NO_HOST, id="embedded with a host"),
        pytest.param("embedded://:pw@", NO_HOST, id="embedded with a password"),
        pytest.param("embedded://:pw@/d", NO_HOST, id="embedded, password and directory"),
        pytest.param(
            "embedded:///",
            "names the root directory; write embedded:///path/to/directory",
            id="embedded in the root directory",
        ),
    ],
)
def test_what_is_no_redis_url_is_refused(text: str, message: str) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011 (the whole text is compared)
        parse_url(text)
    assert str(caught.value) == message


@pytest.mark.parametrize("value", [None, 5, b"redis://h"])
def test_what_is_not_text_is_no_url(value: Any) -> None:
    with pytest.raises(ValueError, match=r"^is not text; write a URL such as redis://localhost"):
        parse_url(value)


@pytest.mark.parametrize("bracket", ["[", "]"])
def test_the_message_about_a_raw_bracket_in_a_password_tells_how_to_encode_it(
    bracket: str,
) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011 (the text is asserted below)
        parse_url(f"redis://:pass{bracket}word@h")
    assert quote(bracket) in str(caught.value)


@pytest.mark.parametrize("part", ["u%ff:pw@h", ":pw%ff@h"])
def test_encoded_bytes_that_are_not_utf_8_are_refused_and_not_replaced(part: str) -> None:
    with pytest.raises(ValueError, match="UTF-8"):
        parse_url(f"redis://{part}")


PASSWORDS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1)


@given(PASSWORDS)
def test_every_password_arrives_when_it_is_percent_encoded(password: str) -> None:
    assert parse_url(f"redis://:{quote(password, safe='')}@h/1").password == password


@given(st.sampled_from(list(SCHEMES)), st.text())
def test_any_text_is_a_url_or_a_value_error(scheme: str, text: str) -> None:
    with contextlib.suppress(ValueError):
        parse_url(f"{scheme}://{text}")


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_url_with_one_of_our_schemes_is_one_for_us(scheme: str) -> None:
    assert has_redis_scheme(f" {scheme.upper()}://whatever")


@pytest.mark.parametrize(
    "value",
    ["http://h", "postgresql://h", "reddis://h", "", None, 5, b"redis://h", "sqlite:///redis://"],
)
def test_what_has_another_scheme_is_left_to_others(value: Any) -> None:
    assert not has_redis_scheme(value)


@pytest.mark.parametrize("value", ["redis", "unix", "embedded", "valkey"])
def test_a_word_that_is_also_a_scheme_is_left_to_others(value: str) -> None:
    assert not has_redis_scheme(value)


@pytest.mark.parametrize(
    ("text", "username", "has_password", "shown"),
    [
        ("redis://h:7/3", None, False, "redis://h:7/0"),
        ("redis://h", None, True, "redis://:***@h:6379/0"),
        ("redis://h", "user", True, "redis://user:***@h:6379/0"),
        ("redis://h", "user", False, "redis://***@h:6379/0"),
        ("rediss://[::1]", None, False, "rediss://[::1]:6379/0"),
        (
            "redis+sentinel://u:pw@a,[::1]:7/mymaster",
            "u",
            True,
            "redis+sentinel://u:***@a:26379,[::1]:7/mymaster/0",
        ),
        ("rediss+cluster://a,b:7000", None, False, "rediss+cluster://a:6379,b:7000"),
        ("unix:///r.sock", "user", True, "unix://user:***@/r.sock?db=0"),
        ("embedded:///d", None, False, "embedded:///d?db=0"),
        ("embedded://", None, False, "embedded://?db=0"),
    ],
)
def test_a_url_is_shown_without_its_password(
    text: str, username: str | None, has_password: bool, shown: str
) -> None:
    assert redacted(parse_url(text), username, has_password, 0) == shown


def test_the_repr_of_a_url_shows_neither_user_nor_password_nor_query() -> None:
    url = parse_url("redis://someuser:somepassword@h:7/3?client_name=somename")
    assert (
        repr(url)
        == "RedisURL(scheme='redis', host='h', port=7, path='', db=3, hosts=(), service='')"
    )
