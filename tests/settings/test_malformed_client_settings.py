"""Malformed settings of a client are refused with exact messages that show no secret."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from pyramid_baseplate_redis import ConfigurationError
from pyramid_baseplate_redis.settings.client import ClientSettings

ENCODE = (
    'percent-encode a "/", "#", "?", "@", "[", "]", "%" or white space in a password '
    "(%2F, %23, %3F, %40, %5B, %5D, %25, %20; in an .ini file double each %)"
)
AT = f'foo.url: contains an "@" after the host name; {ENCODE}'
SPAN = 'write a number and a unit, such as "3 seconds" or "200 milliseconds"'
UNITS = "the units are milliseconds, seconds, minutes, hours and days"
BOOLEAN = "is neither true nor false; write true or false"
NAMES = 'write names with commas between them, such as "PING, PUBLISH"'
A_URL = "write a URL such as redis://localhost:6379/0"
NO_USERS = "an embedded server has no users"
ELSEWHERE = (
    "(if foo.* belongs to something else, list the Redis clients in baseplate_redis.clients; "
    "then no other prefix is read)"
)
KNOWN = "the reference of settings in the documentation has them all"
SECRET = "correct-horse-battery"
DATABASES = "write a whole number from 0 to 1000000"
SECONDS = "write a number of seconds, such as 0.5"


def malformed_argument(name: str, hint: str) -> str:
    return f"foo.url: its query argument {name} has a malformed value; {hint}"


def read(url: Any = "redis://localhost", **others: Any) -> ClientSettings:
    """The settings of a client named foo."""
    pairs = {f"foo.{key}": value for key, value in others.items()}
    return ClientSettings.from_config({"foo.url": url, **pairs}, "foo.")


def malformed(key: str, value: Any, message: str, scheme: str = "redis") -> Any:
    """A row of the table for a client whose URL is right and one of whose settings is not."""
    settings = {"foo.url": f"{scheme}://localhost", f"foo.{key}": value}
    return pytest.param(settings, f"foo.{key}: {message}", id=f"{key}={value!r}")


def malformed_url(url: Any, message: str, **others: Any) -> Any:
    """A row of the table for a URL, with whatever other settings it takes."""
    pairs = {f"foo.{key}": value for key, value in others.items()}
    return pytest.param({"foo.url": url, **pairs}, message, id=f"url={url!r} {others or ''}")


def unknown_argument(hint: str = "") -> str:
    return f"foo.url: has an unknown query argument{hint}"


MALFORMED = [
    # whole numbers
    malformed("max_connections", "0", "0 is out of range; write a whole number from 1 to 65535"),
    malformed("max_connections", "-1", "-1 is out of range; write a whole number from 1 to 65535"),
    malformed(
        "max_connections", "65536", "65536 is out of range; write a whole number from 1 to 65535"
    ),
    malformed(
        "max_connections", "", "'' is not a whole number; write a whole number from 1 to 65535"
    ),
    malformed(
        "max_connections",
        "many",
        "'many' is not a whole number; write a whole number from 1 to 65535",
    ),
    malformed(
        "max_connections",
        "9.5",
        "'9.5' is not a whole number; write a whole number from 1 to 65535",
    ),
    malformed("retries", "-1", "-1 is out of range; write a whole number from 0 to 100"),
    malformed("retries", "101", "101 is out of range; write a whole number from 0 to 100"),
    malformed(
        "retries", "true", "'true' is not a whole number; write a whole number from 0 to 100"
    ),
    malformed("protocol", "1", "1 is out of range; write a whole number from 2 to 3"),
    malformed("protocol", "4", "4 is out of range; write a whole number from 2 to 3"),
    malformed("protocol", "v3", "'v3' is not a whole number; write a whole number from 2 to 3"),
    # time spans
    malformed("pool_timeout", "5", f"'5' has no unit; {SPAN}"),
    malformed("pool_timeout", "-5 seconds", f"'-5 seconds' is negative; {SPAN}"),
    malformed("pool_timeout", "forever", f"'forever' is not a time span; {SPAN}"),
    malformed("socket_connect_timeout", "3", f"'3' has no unit; {SPAN}"),
    malformed("socket_connect_timeout", "0 seconds", "must be longer than zero"),
    malformed("socket_connect_timeout", "3 parsecs", f"'3 parsecs' has an unknown unit; {UNITS}"),
    malformed("socket_timeout", "0.2", f"'0.2' has no unit; {SPAN}"),
    malformed("socket_timeout", "0 ms", "must be longer than zero"),
    malformed("socket_timeout", "-200 ms", f"'-200 ms' is negative; {SPAN}"),
    malformed("socket_timeout", "", f"'' is not a time span; {SPAN}"),
    malformed("socket_timeout", "None", f"'None' is not a time span; {SPAN}"),
    malformed("socket_timeout", "400 days", "is longer than a year"),
    malformed("deadline", "0.2", f"'0.2' has no unit; {SPAN}"),
    malformed("deadline", "0 ms", "must be longer than zero"),
    malformed("deadline", "-1 second", f"'-1 second' is negative; {SPAN}"),
    malformed("health_check_interval", "30", f"'30' has no unit; {SPAN}"),
    malformed("health_check_interval", "-1 s", f"'-1 s' is negative; {SPAN}"),
    # booleans
    malformed("socket_keepalive", "", f"'' {BOOLEAN}"),
    malformed("socket_keepalive", "60", f"'60' {BOOLEAN}"),
    malformed("decode_responses", "utf-8", f"'utf-8' {BOOLEAN}"),
    malformed("decode_responses", "", f"'' {BOOLEAN}"),
    malformed("ssl_check_hostname", "strict", f"'strict' {BOOLEAN}", scheme="rediss"),
    # choices
    malformed(
        "ssl_cert_reqs",
        "CERT_NONE",
        "'CERT_NONE' is not one of none, optional and required",
        scheme="rediss",
    ),
    malformed(
        "ssl_min_version",
        "TLSv1.1",
        "'TLSv1.1' is not one of tlsv1.2 and tlsv1.3",
        scheme="rediss",
    ),
    malformed("trace", "on", "'on' is not one of all, children, pipelines and off"),
    malformed("trace", "", "'' is not one of all, children, pipelines and off"),
    malformed(
        "trace_query_text", "all", "'all' is not one of off, sanitized and keys"
    ),
    malformed("trace_exclude", "", f"'' is not a command name; {NAMES}"),
    malformed("trace_exclude", "PING; SET", f"'PING; SET' is not a command name; {NAMES}"),
    malformed("trace_exclude", None, f"None is not a list of command names; {NAMES}"),
    # texts
    malformed("client_name", "", "is empty"),
    malformed("username", "  ", "is empty"),
    malformed("username", 5, "is not text"),
    malformed("password", "", "is empty"),
    malformed("password", 12345678, "is not text"),
    malformed("password_file", "", "is empty"),
    malformed("ssl_ca_certs", "", "is empty", scheme="rediss"),
    malformed("ssl_ca_path", "", "is empty", scheme="rediss"),
    malformed("ssl_ca_data", "", "is empty", scheme="rediss"),
    malformed("ssl_certfile", "", "is empty", scheme="rediss"),
    malformed("ssl_keyfile", "", "is empty", scheme="rediss"),
    malformed("ssl_password", "", "is empty", scheme="rediss"),
    malformed("ssl_ciphers", "", "is empty", scheme="rediss"),
    # unknown keys
    malformed(
        "sokcet_timeout", "1 s", f"unknown setting; did you mean foo.socket_timeout? {ELSEWHERE}"
    ),
    malformed(
        "max_connection", "1", f"unknown setting; did you mean foo.max_connections? {ELSEWHERE}"
    ),
    malformed("pasword", SECRET, f"unknown setting; did you mean foo.password? {ELSEWHERE}"),
    malformed("retry", "1", f"unknown setting; did you mean foo.retries? {ELSEWHERE}"),
    malformed("trace_excl", "x", f"unknown setting; did you mean foo.trace_exclude? {ELSEWHERE}"),
    malformed("factory", "x", f"unknown setting; {KNOWN} {ELSEWHERE}"),
    malformed("", "x", f"unknown setting; {KNOWN} {ELSEWHERE}"),
    # the URL
    pytest.param({}, f"foo.url: is missing; {A_URL}", id="no url"),
    pytest.param({"foo.retries": "1"}, f"foo.url: is missing; {A_URL}", id="no url, but others"),
    malformed_url("", f"foo.url: is empty; {A_URL}"),
    malformed_url(5, f"foo.url: is not text; {A_URL}"),
    malformed_url(
        "localhost:6379", "foo.url: is not a URL; write one such as redis://localhost:6379/0"
    ),
    malformed_url(
        "http://h",
        "foo.url: has an unknown scheme; the schemes are redis, rediss, valkey, valkeys, unix, "
        "embedded, redis+sentinel, rediss+sentinel, redis+cluster, rediss+cluster",
    ),
    malformed_url(
        "redis://h:port",
        "foo.url: has a malformed host or port (a port is a number from 1 to 65535); " + ENCODE,
    ),
    malformed_url(
        "valkey://h:65536",
        "foo.url: has a malformed host or port (a port is a number from 1 to 65535); " + ENCODE,
    ),
    malformed_url("valkeys://h:0", "foo.url: has port 0; a port is a number from 1 to 65535"),
    malformed_url("rediss://a,b", "foo.url: has a malformed host name; " + ENCODE),
    malformed_url(
        "redis://h/1/2",
        "foo.url: has a path that is not a database number; write it like "
        "redis://localhost:6379/0",
    ),
    malformed_url(
        "redis://h/abc",
        "foo.url: has a path that is not a database number; write it like "
        "redis://localhost:6379/0",
    ),
    malformed_url("unix://", "foo.url: has no path; write unix:///path/to/redis.sock"),
    malformed_url(
        "unix://redis.sock",
        "foo.url: needs an absolute path with three slashes: unix:///path/to/redis.sock",
    ),
    malformed_url(
        "embedded://localhost",
        "foo.url: has a host name or a password, but an embedded server has neither; write "
        "embedded:// or embedded:///path/to/directory",
    ),
    malformed_url(
        "embedded:///",
        "foo.url: names the root directory; write embedded:///path/to/directory",
    ),
    # a secret that isn't encoded as it should be
    malformed_url(f"redis://:{SECRET}/x@h", AT),
    malformed_url(f"redis://:{SECRET}?x@h", AT),
    malformed_url(f"redis://:x#{SECRET}@h", f'foo.url: contains a "#"; {ENCODE}'),
    malformed_url(
        f"redis://:x {SECRET}@h",
        f"foo.url: contains white space or a control character; {ENCODE}",
    ),
    malformed_url(
        f"redis://:{SECRET}",
        "foo.url: has a malformed host or port (a port is a number from 1 to 65535); " + ENCODE,
    ),
    malformed_url(f"unix://:{SECRET}/@/r.sock", AT),
    malformed_url(
        f"embedded://:{SECRET}@/d",
        "foo.url: has a host name or a password, but an embedded server has neither; write "
        "embedded:// or embedded:///path/to/directory",
    ),
    # query arguments
    malformed_url(f"redis://h?secret={SECRET}", unknown_argument()),
    malformed_url(f"redis://h?{SECRET}=1", unknown_argument()),
    malformed_url(f"redis://h?pasword={SECRET}", unknown_argument("; did you mean password?")),
    malformed_url(
        "redis://h?decode_response=1", unknown_argument("; did you mean decode_responses?")
    ),
    malformed_url("redis://h?pool_timeout=5", unknown_argument("; did you mean timeout?")),
    malformed_url("redis://h?retries=3", unknown_argument()),
    malformed_url("redis://h?password_file=/x", unknown_argument("; did you mean password?")),
    malformed_url("redis://h?trace=off", unknown_argument()),
    malformed_url("redis://h?db", f"foo.url: has a malformed query; {ENCODE}"),
    malformed_url("redis://h?db=1&db=2", "foo.url: has a query argument twice"),
    malformed_url("redis://h?db=x", malformed_argument("db", DATABASES)),
    malformed_url("redis://h?db=-1", malformed_argument("db", DATABASES)),
    malformed_url(
        "redis://h/1?db=2",
        "foo.url: has one database in its path and another one in its query",
    ),
    malformed_url(
        "redis://h?socket_timeout=0",
        malformed_argument("socket_timeout", SECONDS),
    ),
    malformed_url(
        "redis://h?socket_timeout=200ms",
        malformed_argument("socket_timeout", SECONDS),
    ),
    malformed_url(
        "redis://h?timeout=-1", malformed_argument("timeout", SECONDS)
    ),
    malformed_url(
        "redis://h?decode_responses=maybe",
        malformed_argument("decode_responses", "write it as in foo.decode_responses"),
    ),
    malformed_url(
        "redis://h?max_connections=0",
        malformed_argument("max_connections", "write it as in foo.max_connections"),
    ),
    malformed_url(
        "rediss://h?ssl_cert_reqs=maybe",
        malformed_argument("ssl_cert_reqs", "write it as in foo.ssl_cert_reqs"),
    ),
    # contradictions
    malformed_url(
        f"redis://:{SECRET}@h?password=x", "foo.url: has two values for password"
    ),
    malformed_url("redis://u@h?username=v", "foo.url: has two values for username"),
    malformed_url(
        f"redis://:{SECRET}@h",
        "foo.password: foo.url has one as well; write it in one place only",
        password="x",
    ),
    malformed_url(
        f"redis://:{SECRET}@h",
        "foo.password: foo.url has one as well; write it in one place only",
        password=SECRET,
    ),
    malformed_url(
        "redis://u@h",
        "foo.username: foo.url has one as well; write it in one place only",
        username="v",
    ),
    malformed_url(
        "redis://h?protocol=2",
        "foo.protocol: foo.url has one as well; write it in one place only",
        protocol="3",
    ),
    malformed_url(
        "redis://h?timeout=4",
        "foo.pool_timeout: foo.url has one as well; write it in one place only",
        pool_timeout="5 seconds",
    ),
    malformed_url(
        "redis://h?decode_responses=False",
        "foo.decode_responses: foo.url has one as well; write it in one place only",
        decode_responses="true",
    ),
    malformed_url(
        f"redis://:{SECRET}@h",
        "foo.password_file: there is a password as well; write it in one place only",
        password_file="/run/secrets/redis",
    ),
    malformed_url(
        "redis://h",
        "foo.password_file: there is a password as well; write it in one place only",
        password=SECRET,
        password_file="/run/secrets/redis",
    ),
    malformed_url("embedded://", f"foo.username: {NO_USERS}", username="u"),
    malformed_url("embedded://", f"foo.password: {NO_USERS}", password=SECRET),
    malformed_url("embedded://", f"foo.password_file: {NO_USERS}", password_file="/x"),
    malformed_url(f"embedded:///d?password={SECRET}", f"foo.password: {NO_USERS}"),
    *(
        malformed_url(
            url, "foo.ssl_ca_certs: needs TLS; write rediss:// in foo.url, or leave it out",
            ssl_ca_certs="/ca.pem",
        )
        for url in ("redis://h", "valkey://h", "unix:///r.sock", "embedded://")
    ),
    malformed_url(
        "redis://h?ssl_check_hostname=false",
        "foo.ssl_check_hostname: needs TLS; write rediss:// in foo.url, or leave it out",
    ),
    malformed_url(
        "redis+cluster://h",
        "foo.ssl_ca_certs: needs TLS; write rediss+cluster:// in foo.url, or leave it out",
        ssl_ca_certs="/ca.pem",
    ),
    malformed_url(
        "redis+cluster://h",
        "foo.read_from: needs Sentinel; write redis+sentinel:// in foo.url, or leave it out",
        read_from="replica",
    ),
    malformed_url(
        "redis://h",
        "foo.sentinel_password: needs Sentinel; write redis+sentinel:// in foo.url, or leave it "
        "out",
        sentinel_password=SECRET,
    ),
    malformed_url(
        "redis+sentinel://h/mymaster",
        "foo.read_from_replicas: needs a Cluster; write redis+cluster:// in foo.url, or leave it "
        "out",
        read_from_replicas="true",
    ),
    malformed_url(
        "redis+sentinel://h/mymaster",
        "foo.sentinel_password_file: foo.sentinel_password is set as well; write it in one place "
        "only",
        sentinel_password=SECRET,
        sentinel_password_file="/run/secrets/sentinel",
    ),
    malformed_url(
        "redis+sentinel://h/mymaster",
        "foo.read_from: 'both' is not one of primary and replica",
        read_from="both",
    ),
    malformed_url(
        "redis+cluster://h",
        "foo.load_balancing: needs foo.read_from_replicas = true; set that as well, "
        "or leave it out",
        load_balancing="random",
    ),
    malformed_url(
        "redis+cluster://h?db=1",
        "foo.url: names a database other than 0, but a Cluster has only database 0",
    ),
    malformed_url(
        "rediss://h",
        "foo.ssl_keyfile: needs foo.ssl_certfile; set that as well", ssl_keyfile="/key.pem"
    ),
    malformed_url(
        "rediss://h",
        "foo.ssl_password: needs foo.ssl_certfile; set that as well", ssl_password=SECRET
    ),
]  # fmt: skip


def test_the_table_of_malformed_settings_is_long_enough() -> None:
    assert len(MALFORMED) >= 60


@pytest.mark.parametrize(("settings", "message"), MALFORMED)
def test_malformed_settings_are_refused_with_an_exact_message(
    settings: Mapping[str, Any], message: str
) -> None:
    with pytest.raises(ConfigurationError) as caught:
        ClientSettings.from_config(settings, "foo.")
    assert str(caught.value) == message


@pytest.mark.parametrize(("settings", "message"), MALFORMED)
def test_no_message_has_a_secret_in_it(settings: Mapping[str, Any], message: str) -> None:
    assert SECRET not in message


@pytest.mark.parametrize(("settings", "message"), MALFORMED)
def test_every_message_starts_with_the_full_key(settings: Mapping[str, Any], message: str) -> None:
    key = message.partition(": ")[0]
    assert key in settings or key == "foo.url" or f"{key.removeprefix('foo.')}=" in str(settings)


@pytest.mark.parametrize(("settings", "message"), MALFORMED)
def test_no_error_is_chained_to_one_that_shows_the_value(
    settings: Mapping[str, Any], message: str
) -> None:
    with pytest.raises(ConfigurationError) as caught:
        ClientSettings.from_config(settings, "foo.")
    assert (caught.value.__cause__, caught.value.__context__) == (None, None)


@pytest.mark.parametrize("name", ["my app", "my\tapp", "größe", "a\x00b"])
def test_a_client_name_that_every_server_refuses_is_refused(name: str) -> None:
    with pytest.raises(ConfigurationError, match=r"^foo\.client_name: "):
        read(client_name=name)
