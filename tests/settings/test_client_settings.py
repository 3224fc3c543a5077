"""ClientSettings and PackageSettings: defaults, native values, contradictions, exact messages."""

from __future__ import annotations

import dataclasses
import pathlib
import ssl
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import plaster
import pytest

from pyramid_baseplate_redis import ConfigurationError
from pyramid_baseplate_redis.settings.client import ClientSettings
from pyramid_baseplate_redis.settings.package import PackageSettings, discovered_clients

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
KNOWN = (
    "the settings are url_env, url_file, max_connections, pool_timeout, socket_connect_timeout, "
    "socket_timeout, socket_keepalive, health_check_interval, max_idle_time, max_lifetime, "
    "leak_warning, retries, retry_budget, breaker_failures, breaker_reset, required, "
    "health_timeout, protocol, decode_responses, client_name, username, password, password_file, "
    "ssl_ca_certs, ssl_ca_path, ssl_ca_data, ssl_certfile, "
    "ssl_keyfile, ssl_password, ssl_cert_reqs, ssl_check_hostname, ssl_min_version, ssl_ciphers, "
    "sentinel_username, sentinel_password, sentinel_password_file, min_other_sentinels, read_from, "
    "read_from_replicas, load_balancing, require_full_coverage, trace, "
    "trace_query_text, trace_exclude, metrics, track_key_reads_sample_rate, "
    "track_key_writes_sample_rate and url"
)
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


@pytest.mark.parametrize("prefix", ["foo", "", "."], ids=["without a dot", "empty", "only a dot"])
def test_a_prefix_without_a_name_and_a_dot_is_refused(prefix: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        ClientSettings.from_config({"foo.url": "redis://h"}, prefix)
    assert str(caught.value) == 'prefix: must end with a dot, such as "foo."'


def test_every_default_is_our_own() -> None:
    settings = read("redis://localhost")
    defaults = {
        field.name: getattr(settings, field.name)
        for field in dataclasses.fields(settings)
        if field.name not in ("prefix", "parsed_url", "in_url", "in_config", "keywords")
    }
    assert defaults == {
        "url_env": None,
        "url_file": None,
        "max_connections": 50,
        "pool_timeout": timedelta(seconds=5),
        "socket_connect_timeout": timedelta(seconds=5),
        "socket_timeout": timedelta(seconds=5),
        "socket_keepalive": True,
        "health_check_interval": timedelta(0),
        "max_idle_time": timedelta(minutes=10),
        "max_lifetime": timedelta(hours=1),
        "leak_warning": timedelta(0),
        "retries": 0,
        "retry_budget": timedelta(seconds=5),
        "breaker_failures": 0,
        "breaker_reset": timedelta(seconds=5),
        "required": True,
        "health_timeout": timedelta(seconds=1),
        "protocol": None,
        "decode_responses": False,
        "client_name": None,
        "username": None,
        "password": None,
        "password_file": None,
        "ssl_ca_certs": None,
        "ssl_ca_path": None,
        "ssl_ca_data": None,
        "ssl_certfile": None,
        "ssl_keyfile": None,
        "ssl_password": None,
        "ssl_cert_reqs": "required",
        "ssl_check_hostname": True,
        "ssl_min_version": ssl.TLSVersion.TLSv1_2,
        "ssl_ciphers": None,
        "sentinel_username": None,
        "sentinel_password": None,
        "sentinel_password_file": None,
        "min_other_sentinels": 0,
        "read_from": "primary",
        "read_from_replicas": False,
        "load_balancing": "round_robin",
        "require_full_coverage": True,
        "trace": "all",
        "trace_query_text": "off",
        "trace_exclude": frozenset(),
        "metrics": True,
        "track_key_reads_sample_rate": 0.0,
        "track_key_writes_sample_rate": 0.0,
    }


@pytest.mark.parametrize(
    ("key", "raw", "value"),
    [
        ("max_connections", "99", 99),
        ("max_connections", "1", 1),
        ("max_connections", "65535", 65535),
        ("pool_timeout", "3 seconds", timedelta(seconds=3)),
        ("pool_timeout", "0 seconds", timedelta(0)),
        ("socket_connect_timeout", "3 seconds", timedelta(seconds=3)),
        ("socket_timeout", "200 milliseconds", timedelta(milliseconds=200)),
        ("socket_keepalive", "no", False),
        ("health_check_interval", "30s", timedelta(seconds=30)),
        ("retries", "3", 3),
        ("protocol", "2", 2),
        ("decode_responses", "true", True),
        ("client_name", "web-1", "web-1"),
        ("username", "app", "app"),
        ("password", " a b ", " a b "),
        ("password", "a/b#c?d@e%f", "a/b#c?d@e%f"),
        ("password_file", "/run/secrets/redis", "/run/secrets/redis"),
        ("ssl_ca_certs", "/ca.pem", "/ca.pem"),
        ("ssl_ca_path", "/etc/ssl/certs", "/etc/ssl/certs"),
        ("ssl_ca_data", "-----BEGIN", "-----BEGIN"),
        ("ssl_certfile", "/cert.pem", "/cert.pem"),
        ("ssl_cert_reqs", "NONE", "none"),
        ("ssl_check_hostname", "off", False),
        ("ssl_min_version", "TLSv1.3", ssl.TLSVersion.TLSv1_3),
        ("ssl_ciphers", "ECDHE+AESGCM", "ECDHE+AESGCM"),
        ("trace", "children", "children"),
        ("trace_query_text", "Keys", "keys"),
        ("trace_exclude", "ping, publish", frozenset({"PING", "PUBLISH"})),
    ],
)
def test_a_setting_is_read_from_its_text(key: str, raw: str, value: Any) -> None:
    url = "rediss://localhost" if key.startswith("ssl_") else "redis://localhost"
    assert getattr(read(url, **{key: raw}), key) == value


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("max_connections", 99),
        ("pool_timeout", timedelta(seconds=3)),
        ("socket_connect_timeout", timedelta(seconds=3)),
        ("socket_timeout", timedelta(milliseconds=200)),
        ("socket_keepalive", False),
        ("health_check_interval", timedelta(seconds=30)),
        ("retries", 3),
        ("protocol", 2),
        ("decode_responses", True),
        ("ssl_check_hostname", False),
        ("ssl_min_version", ssl.TLSVersion.TLSv1_3),
        ("trace_exclude", frozenset({"PING"})),
    ],
)
def test_a_setting_may_have_its_type_already(key: str, value: Any) -> None:
    url = "rediss://localhost" if key.startswith("ssl_") else "redis://localhost"
    assert getattr(read(url, **{key: value}), key) == value


@pytest.mark.parametrize("key", ["password_file", "ssl_ca_certs", "ssl_ca_path", "ssl_certfile"])
def test_a_file_may_be_given_as_a_path(key: str) -> None:
    settings = read("rediss://localhost", **{key: pathlib.Path("/some/file")})
    assert getattr(settings, key) == "/some/file"


@pytest.mark.parametrize(
    ("native", "name"),
    [
        (ssl.CERT_NONE, "none"),
        (ssl.CERT_OPTIONAL, "optional"),
        (ssl.CERT_REQUIRED, "required"),
    ],
)
def test_certificate_requirements_may_be_those_of_the_ssl_module(native: Any, name: str) -> None:
    assert read("rediss://localhost", ssl_cert_reqs=native).ssl_cert_reqs == name


@pytest.mark.parametrize(
    ("argument", "key", "value"),
    [
        ("max_connections=7", "max_connections", 7),
        ("timeout=2", "pool_timeout", timedelta(seconds=2)),
        ("timeout=0", "pool_timeout", timedelta(0)),
        ("socket_timeout=0.5", "socket_timeout", timedelta(seconds=0.5)),
        ("socket_connect_timeout=3", "socket_connect_timeout", timedelta(seconds=3)),
        ("health_check_interval=30", "health_check_interval", timedelta(seconds=30)),
        ("socket_keepalive=False", "socket_keepalive", False),
        ("protocol=2", "protocol", 2),
        ("decode_responses=True", "decode_responses", True),
        ("decode_responses=False", "decode_responses", False),
        ("decode_responses=no", "decode_responses", False),
        ("decode_responses=0", "decode_responses", False),
        ("client_name=web-1", "client_name", "web-1"),
        ("username=app", "username", "app"),
        ("password=a%2Fb%40c", "password", "a/b@c"),
        ("db=3", "db", 3),
        ("ssl_cert_reqs=none", "ssl_cert_reqs", "none"),
        ("ssl_check_hostname=False", "ssl_check_hostname", False),
        ("ssl_ca_certs=/ca.pem", "ssl_ca_certs", "/ca.pem"),
    ],
)
def test_a_query_argument_of_the_url_is_a_setting(argument: str, key: str, value: Any) -> None:
    scheme = "rediss" if argument.startswith("ssl_") else "redis"
    assert getattr(read(f"{scheme}://localhost?{argument}"), key) == value


@pytest.mark.parametrize(
    ("url", "others"),
    [
        ("redis://u@h", {"username": "u"}),
        ("redis://h?protocol=2", {"protocol": "2"}),
        ("redis://h?timeout=5", {"pool_timeout": "5 seconds"}),
        ("redis://h/3?db=3", {}),
    ],
)
def test_what_is_said_twice_alike_is_no_contradiction(url: str, others: dict[str, str]) -> None:
    assert read(url, **others).parsed_url.host == "h"


@pytest.mark.parametrize(
    ("url", "database"),
    [
        ("redis://h", 0),
        ("redis://h/", 0),
        ("redis://h/3", 3),
        ("redis://h?db=3", 3),
        ("unix:///r.sock?db=3", 3),
        ("embedded:///d?db=3", 3),
    ],
)
def test_the_database_is_the_path_or_a_query_argument(url: str, database: int) -> None:
    assert read(url).db == database


def test_a_percent_sign_is_doubled_in_an_ini_file(tmp_path: pathlib.Path) -> None:
    ini = tmp_path / "development.ini"
    ini.write_text("[app:main]\nfoo.url = redis://:p%%40ss@h\nfoo.client_name = 100%%\n")
    settings = ClientSettings.from_config(plaster.get_settings(str(ini), "app:main"), "foo.")
    assert (settings.password, settings.client_name) == ("p@ss", "100%")


def test_keys_with_a_further_dot_belong_to_somebody_else() -> None:
    settings = ClientSettings.from_config(
        {"redis.url": "redis://h", "redis.sessions.secret": SECRET, "redis.sessions.nonsense": "x"}
    )
    assert SECRET not in repr(settings)


def test_keys_of_other_prefixes_are_passed_over() -> None:
    app_config = {"foo.url": "redis://h", "bar.nonsense": "x", "foobar.nonsense": "x", "foo": "x"}
    assert ClientSettings.from_config(app_config, "foo.").name == "foo"


def test_keys_that_are_not_text_are_passed_over() -> None:
    app_config: dict[Any, Any] = {"foo.url": "redis://h", 5: "x", ("foo.", "x"): "x"}
    assert ClientSettings.from_config(app_config, "foo.").name == "foo"


def test_the_settings_of_a_client_are_immutable() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        read().retries = 3  # type: ignore[misc]


def test_what_is_shown_of_the_settings_leaves_out_what_is_absent() -> None:
    assert None not in read().shown().values()


def test_the_repr_shows_a_password_as_stars() -> None:
    text = repr(read("redis://localhost", username="app", password=SECRET, retries="3"))
    assert text.startswith("ClientSettings(prefix='foo.', url='redis://app:***@localhost:6379/0'")
    assert "password='***'" in text
    assert "retries=3" in text


def test_a_user_name_beside_a_password_is_shown() -> None:
    assert read(f"redis://app:{SECRET}@h").shown()["username"] == "app"


def test_a_user_name_that_stands_alone_is_not_shown() -> None:
    # redis://secret@host is a common slip for redis://:secret@host.
    settings = read(f"redis://{SECRET}@h")
    assert SECRET not in repr(settings)
    assert SECRET not in str(settings.shown())


@pytest.mark.parametrize(
    ("app_config", "names"),
    [
        pytest.param({"foo.url": "redis://h"}, ["foo"], id="one"),
        pytest.param(
            {"foo.url": "redis://h", "bar.url": "unix:///r.sock", "b2.url": "embedded://"},
            ["b2", "bar", "foo"],
            id="several",
        ),
        pytest.param({"sqlalchemy.url": "postgresql://h"}, [], id="another scheme"),
        pytest.param({"redis.sessions.url": "redis://h"}, [], id="a further dot"),
        pytest.param({"my-redis.url": "redis://h"}, [], id="not an identifier"),
        pytest.param({".url": "redis://h", "url": "redis://h"}, [], id="no name"),
        pytest.param({"foo.uri": "redis://h"}, [], id="not url"),
        pytest.param({"foo.url": 5, "bar.url": None}, [], id="not text"),
        pytest.param({5: "redis://h"}, [], id="a key that is not text"),
        pytest.param({"foo.url": "redis"}, [], id="a word that is also a scheme"),
        pytest.param({}, [], id="nothing"),
        pytest.param(
            {"baseplate_redis.clients": "foo bar", "other.url": "redis://h"},
            ["bar", "foo"],
            id="named explicitly",
        ),
        pytest.param({"baseplate_redis.clients": "foo, bar"}, ["bar", "foo"], id="with commas"),
        pytest.param({"baseplate_redis.clients": "\n foo\n bar\n"}, ["bar", "foo"], id="in lines"),
        pytest.param({"baseplate_redis.clients": ["foo", "bar"]}, ["bar", "foo"], id="a list"),
        pytest.param({"baseplate_redis.clients": "foo foo"}, ["foo"], id="named twice"),
        pytest.param(
            {"baseplate_redis.clients": "", "foo.url": "redis://h"}, [], id="explicitly none"
        ),
    ],
)
def test_the_clients_are_found_in_the_settings(app_config: Any, names: list[str]) -> None:
    assert discovered_clients(app_config) == names


def test_the_package_has_defaults() -> None:
    assert PackageSettings.from_config({}) == PackageSettings(None, "auto", False, False)


@pytest.mark.parametrize(
    ("key", "raw", "value"),
    [
        ("server_span", "Never", "never"),
        ("server_span", "always", "always"),
        ("trust_trace_headers", "true", True),
        ("trust_trace_headers", False, False),
        ("health_details", "true", True),
        ("clients", "foo bar", ["foo", "bar"]),
        ("queues", "jobs mails", ["jobs", "mails"]),
    ],
)
def test_a_setting_of_the_package_is_read(key: str, raw: Any, value: Any) -> None:
    settings = PackageSettings.from_config({f"baseplate_redis.{key}": raw})
    assert getattr(settings, key) == value


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("server_span", "yes", "'yes' is not one of auto, always and never"),
        ("server_span", "", "'' is not one of auto, always and never"),
        (
            "trust_trace_headers",
            "maybe",
            "'maybe' is neither true nor false; write true or false",
        ),
        (
            "clients",
            None,
            "None is not a list of names; write names with spaces or commas between them",
        ),
        ("client", "foo", "unknown setting; did you mean baseplate_redis.clients?"),
        (
            "url",
            "redis://h",
            "unknown setting; the settings are clients, server_span, trust_trace_headers, "
            "health_details, prometheus and queues",
        ),
        ("sever_span", "auto", "unknown setting; did you mean baseplate_redis.server_span?"),
    ],
)
def test_a_malformed_setting_of_the_package_is_refused(key: str, value: Any, message: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        PackageSettings.from_config({f"baseplate_redis.{key}": value})
    assert str(caught.value) == f"baseplate_redis.{key}: {message}"


def test_keys_of_the_package_with_a_further_dot_belong_to_somebody_else() -> None:
    app_config = {"baseplate_redis.foo.bar": "x"}
    assert PackageSettings.from_config(app_config) == PackageSettings()
