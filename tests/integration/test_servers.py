"""Real servers with TLS, ACL users and unix sockets."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
import redis
import trustme
from opentelemetry.trace import StatusCode

from pyramid_baseplate_redis import MonitoredRedisConnection, TimedOutError, pool_from_config

from ..support import (
    RecordedSpans,
    Server,
    attributes,
    free_port,
    needs_debian_redis,
    open_sockets_to,
    running_server,
)

MakeClient = Callable[..., MonitoredRedisConnection]
KINDS = ["valkey", pytest.param("redis", marks=needs_debian_redis)]


@pytest.fixture
def make_client() -> Iterator[MakeClient]:
    """Make the client ``foo`` with the settings given, quick to give up."""
    pools: list[redis.ConnectionPool] = []

    def make(url: str, **settings: str) -> MonitoredRedisConnection:
        own = {"socket_connect_timeout": "1 second", "socket_timeout": "1 second"} | settings
        config = {"foo.url": url} | {f"foo.{key}": value for key, value in own.items()}
        pools.append(pool_from_config(config, "foo."))
        return MonitoredRedisConnection("foo", None, pools[-1])

    yield make
    for pool in pools:
        pool.disconnect()


# TLS


@dataclass
class Certificates:
    """The files of an authority, and of what it issued: ``<name>.pem`` and ``<name>.key``."""

    directory: Path

    def __post_init__(self) -> None:
        authority = trustme.CA()
        authority.cert_pem.write_to_path(self.directory / "authority.pem")
        trustme.CA().cert_pem.write_to_path(self.directory / "stranger.pem")
        for name, identity in [
            ("server", "127.0.0.1"),
            ("elsewhere", "elsewhere.example"),
            ("client", "client.example"),
        ]:
            issued = authority.issue_cert(identity)
            issued.cert_chain_pems[0].write_to_path(self.directory / f"{name}.pem")
            issued.private_key_pem.write_to_path(self.directory / f"{name}.key")

    def certificate(self, name: str) -> str:
        return str(self.directory / f"{name}.pem")

    def key(self, name: str) -> str:
        return str(self.directory / f"{name}.key")

    @property
    def trusted(self) -> dict[str, str]:
        """The settings of a client that trusts the authority."""
        return {"ssl_ca_certs": self.certificate("authority")}

    @property
    def own(self) -> dict[str, str]:
        """The settings of a client that has a certificate itself."""
        return {"ssl_certfile": self.certificate("client"), "ssl_keyfile": self.key("client")}


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("certificates"))


@dataclass
class TLSServer:
    """A server with a port for TLS beside the plain one."""

    url: str
    plain: Server


@pytest.fixture(scope="module")
def tls_server(
    certificates: Certificates, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[..., TLSServer]]:
    """Start Debian's server (the one from PyPI has no TLS), once for each set of options."""
    with ExitStack() as stack:
        started: dict[tuple[str, ...], TLSServer] = {}

        def start(*options: str, certificate: str = "server") -> TLSServer:
            port = free_port()
            plain = stack.enter_context(
                running_server(
                    "redis",
                    tmp_path_factory.mktemp("tls"),
                    *("--tls-port", str(port)),
                    *("--tls-cert-file", certificates.certificate(certificate)),
                    *("--tls-key-file", certificates.key(certificate)),
                    *("--tls-ca-cert-file", certificates.certificate("authority")),
                    *options,
                )
            )
            # The plain port, which is waited for, listens first.
            deadline = time.monotonic() + 5
            while not open_sockets_to(port):
                assert time.monotonic() < deadline
                time.sleep(0.01)
            return TLSServer(f"rediss://127.0.0.1:{port}", plain)

        def start_once(*options: str, certificate: str = "server") -> TLSServer:
            which = (*options, certificate)
            if which not in started:
                started[which] = start(*options, certificate=certificate)
            return started[which]

        yield start_once


NO_CLIENT_CERTIFICATES = ("--tls-auth-clients", "no")
CLIENT_CERTIFICATES = ("--tls-auth-clients", "yes")
ONLY_TLS_1_2 = (*NO_CLIENT_CERTIFICATES, "--tls-protocols", "TLSv1.2")
StartTLSServer = Callable[..., TLSServer]


@needs_debian_redis
def test_tls_with_a_trusted_certificate(
    tls_server: StartTLSServer, certificates: Certificates, make_client: MakeClient
) -> None:
    client = make_client(tls_server(*NO_CLIENT_CERTIFICATES).url, **certificates.trusted)
    client.set("key", "value")
    assert client.get("key") == b"value"


@needs_debian_redis
@pytest.mark.parametrize("scheme", ["rediss", "valkeys"])
def test_tls_is_what_the_scheme_says(
    tls_server: StartTLSServer, certificates: Certificates, make_client: MakeClient, scheme: str
) -> None:
    url = tls_server(*NO_CLIENT_CERTIFICATES).url.replace("rediss", scheme)
    client = make_client(url, **certificates.trusted)
    assert isinstance(client.connection_pool.get_connection(), redis.SSLConnection)


@needs_debian_redis
def test_tls_with_an_authority_given_as_text(
    tls_server: StartTLSServer, certificates: Certificates, make_client: MakeClient
) -> None:
    authority = Path(certificates.certificate("authority")).read_text()
    client = make_client(tls_server(*NO_CLIENT_CERTIFICATES).url, ssl_ca_data=authority)
    assert client.ping()


@needs_debian_redis
def test_everything_works_over_tls(
    tls_server: StartTLSServer,
    certificates: Certificates,
    make_client: MakeClient,
    spans: RecordedSpans,
) -> None:
    client = make_client(
        tls_server(*NO_CLIENT_CERTIFICATES).url,
        **certificates.trusted,
        socket_timeout="200 milliseconds",
    )
    queue = client.message_queue("jobs")
    with pytest.raises(TimedOutError):
        queue.get(1)
    queue.put("a message")
    assert queue.get(1) == b"a message"
    assert client.pipeline("pair").set("key", "value").get("key").execute() == [True, b"value"]
    assert spans.names == ["foo.RPUSH", "foo.BLPOP", "foo.pipeline_pair"]


@needs_debian_redis
@pytest.mark.parametrize("settings", [{}, {"ssl_ca_certs": "stranger"}], ids=["none", "stranger"])
def test_an_untrusted_authority_is_refused(
    tls_server: StartTLSServer,
    certificates: Certificates,
    make_client: MakeClient,
    settings: dict[str, str],
) -> None:
    files = {key: certificates.certificate(name) for key, name in settings.items()}
    client = make_client(tls_server(*NO_CLIENT_CERTIFICATES).url, **files)
    with pytest.raises(redis.ConnectionError, match="CERTIFICATE_VERIFY_FAILED"):
        client.ping()


@needs_debian_redis
def test_a_refused_certificate_is_told_by_the_span(
    tls_server: StartTLSServer, make_client: MakeClient, spans: RecordedSpans
) -> None:
    client = make_client(tls_server(*NO_CLIENT_CERTIFICATES).url)
    with pytest.raises(redis.ConnectionError):
        client.ping()
    span = spans.one("foo.PING")
    assert span.status.status_code is StatusCode.ERROR
    assert attributes(span)["error.type"] == "redis.exceptions.ConnectionError"


@needs_debian_redis
def test_without_verification_any_certificate_is_accepted(
    tls_server: StartTLSServer, make_client: MakeClient
) -> None:
    url = tls_server(*NO_CLIENT_CERTIFICATES, certificate="elsewhere").url
    client = make_client(url, ssl_cert_reqs="none", ssl_check_hostname="false")
    assert client.ping()


@needs_debian_redis
def test_without_verification_the_host_name_counts_no_more(
    tls_server: StartTLSServer, make_client: MakeClient
) -> None:
    url = tls_server(*NO_CLIENT_CERTIFICATES, certificate="elsewhere").url
    assert make_client(url, ssl_cert_reqs="none").ping()


@needs_debian_redis
def test_another_hosts_certificate_is_refused(
    tls_server: StartTLSServer, certificates: Certificates, make_client: MakeClient
) -> None:
    url = tls_server(*NO_CLIENT_CERTIFICATES, certificate="elsewhere").url
    with pytest.raises(redis.ConnectionError, match="certificate is not valid for"):
        make_client(url, **certificates.trusted).ping()


@needs_debian_redis
def test_another_hosts_certificate_is_accepted_where_that_isnt_checked(
    tls_server: StartTLSServer, certificates: Certificates, make_client: MakeClient
) -> None:
    url = tls_server(*NO_CLIENT_CERTIFICATES, certificate="elsewhere").url
    assert make_client(url, **certificates.trusted, ssl_check_hostname="false").ping()


@needs_debian_redis
def test_a_client_certificate_is_shown(
    tls_server: StartTLSServer, certificates: Certificates, make_client: MakeClient
) -> None:
    url = tls_server(*CLIENT_CERTIFICATES).url
    assert make_client(url, **certificates.trusted, **certificates.own).ping()


@needs_debian_redis
def test_a_missing_client_certificate_is_an_error(
    tls_server: StartTLSServer, certificates: Certificates, make_client: MakeClient
) -> None:
    client = make_client(tls_server(*CLIENT_CERTIFICATES).url, **certificates.trusted)
    with pytest.raises(redis.ConnectionError):
        client.ping()


@needs_debian_redis
def test_the_least_version_of_tls_that_a_client_accepts(
    tls_server: StartTLSServer, certificates: Certificates, make_client: MakeClient
) -> None:
    url = tls_server(*ONLY_TLS_1_2).url
    assert make_client(url, **certificates.trusted, ssl_min_version="TLSv1.2").ping()
    with pytest.raises(redis.ConnectionError):
        make_client(url, **certificates.trusted, ssl_min_version="TLSv1.3").ping()


@needs_debian_redis
def test_a_tls_client_on_a_plain_port_is_an_error(
    tls_server: StartTLSServer, certificates: Certificates, make_client: MakeClient
) -> None:
    url = tls_server(*NO_CLIENT_CERTIFICATES).plain.url.replace("redis://", "rediss://")
    # The handshake has the time of any other exchange.
    client = make_client(url, **certificates.trusted, socket_timeout="300 milliseconds")
    started = time.monotonic()
    with pytest.raises((redis.ConnectionError, redis.TimeoutError)):
        client.ping()
    assert time.monotonic() - started < 1


@needs_debian_redis
def test_a_plain_client_on_a_tls_port_is_an_error(
    tls_server: StartTLSServer, make_client: MakeClient
) -> None:
    url = tls_server(*NO_CLIENT_CERTIFICATES).url.replace("rediss://", "redis://")
    with pytest.raises(redis.ConnectionError):
        make_client(url).ping()


# Users


@pytest.fixture(scope="module", params=KINDS)
def guarded(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    """A server with a user who may only touch the keys of his application."""
    user = ("app", "on", ">s3cret/#?@", "~app:*", "+@all", "-flushall")
    options = ("--user", *user, "--requirepass", "default-password")
    with running_server(request.param, tmp_path_factory.mktemp("guarded"), *options) as server:
        yield server


def test_a_user_by_settings(guarded: Server, make_client: MakeClient) -> None:
    client = make_client(guarded.url, username="app", password="s3cret/#?@")
    assert client.acl_whoami() == b"app"


def test_a_user_in_the_url(guarded: Server, make_client: MakeClient) -> None:
    url = f"redis://app:s3cret%2F%23%3F%40@127.0.0.1:{guarded.port}"
    assert make_client(url).acl_whoami() == b"app"


def test_a_user_whose_password_is_in_a_file(
    guarded: Server, make_client: MakeClient, tmp_path: Path
) -> None:
    password = tmp_path / "password"
    password.write_text("s3cret/#?@\n")
    client = make_client(guarded.url, username="app", password_file=str(password))
    assert client.acl_whoami() == b"app"


def test_a_password_alone_is_the_default_users(guarded: Server, make_client: MakeClient) -> None:
    assert make_client(guarded.url, password="default-password").acl_whoami() == b"default"


@pytest.mark.parametrize("protocol", ["2", "3"])
@pytest.mark.parametrize("username", ["app", "default", "nobody"])
def test_a_wrong_password_is_an_authentication_error(
    guarded: Server, make_client: MakeClient, protocol: str, username: str
) -> None:
    client = make_client(guarded.url, username=username, password="wrong", protocol=protocol)
    with pytest.raises(redis.AuthenticationError) as raised:
        client.ping()
    assert "wrong" not in str(raised.value)


def test_without_a_password_there_is_no_access(guarded: Server, make_client: MakeClient) -> None:
    with pytest.raises(redis.AuthenticationError):
        make_client(guarded.url).ping()


def test_a_failed_login_takes_no_connection_out_of_the_pool(
    guarded: Server, make_client: MakeClient
) -> None:
    client = make_client(
        guarded.url, password="wrong", max_connections="2", pool_timeout="50 milliseconds"
    )
    for _ in range(5):
        with pytest.raises(redis.AuthenticationError):
            client.ping()


@pytest.mark.parametrize(
    "call",
    [lambda client: client.get("other:key"), lambda client: client.flushall()],
    ids=["key", "command"],
)
def test_what_a_user_may_not_do_is_told_by_the_span(
    guarded: Server,
    make_client: MakeClient,
    spans: RecordedSpans,
    call: Callable[[redis.Redis], object],
) -> None:
    client = make_client(guarded.url, username="app", password="s3cret/#?@")
    client.set("app:key", "value")
    spans.clear()
    with pytest.raises(redis.exceptions.NoPermissionError):
        call(client)
    (span,) = spans.all
    found = attributes(span)
    assert (found["error.type"], found["db.response.status_code"]) == (
        "redis.exceptions.NoPermissionError",
        "NOPERM",
    )


def test_what_a_user_may_not_do_in_a_pipeline_is_told_by_the_span(
    guarded: Server, make_client: MakeClient, spans: RecordedSpans
) -> None:
    client = make_client(guarded.url, username="app", password="s3cret/#?@")
    with pytest.raises(redis.exceptions.NoPermissionError):
        client.pipeline("bad").get("app:key").get("other:key").execute()
    assert attributes(spans.one("foo.pipeline_bad"))["db.response.status_code"] == "NOPERM"


# Unix sockets


@pytest.fixture(scope="module", params=KINDS)
def unix_socket(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    directory = tmp_path_factory.mktemp("unix")
    path = str(directory / "redis.sock")
    user = ("--user", "app", "on", ">secret", "~*", "&*", "+@all")
    with running_server(request.param, directory, "--unixsocket", path, *user):
        yield path


def test_a_unix_socket(unix_socket: str, make_client: MakeClient) -> None:
    client = make_client(f"unix://{unix_socket}")
    client.set("key", "value")
    assert client.get("key") == b"value"


def test_a_unix_socket_is_the_spans_server_address(
    unix_socket: str, make_client: MakeClient, spans: RecordedSpans
) -> None:
    make_client(f"unix://{unix_socket}?db=2").ping()
    found = attributes(spans.one("foo.PING"))
    assert (found["server.address"], found["db.namespace"]) == (unix_socket, "2")
    assert "server.port" not in found


def test_a_user_on_a_unix_socket(unix_socket: str, make_client: MakeClient) -> None:
    assert make_client(f"unix://app:secret@{unix_socket}").acl_whoami() == b"app"


def test_a_unix_socket_that_isnt_there_is_an_error(make_client: MakeClient, tmp_path: Path) -> None:
    with pytest.raises(redis.ConnectionError):
        make_client(f"unix://{tmp_path}/nobody.sock").ping()
