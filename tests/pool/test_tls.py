"""TLS against real servers: certificates, versions, and that nothing is ever sent in plain."""

from __future__ import annotations

import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import redis
import trustme
from opentelemetry.trace import StatusCode

from pyramid_baseplate_redis import ConfigurationError, TimedOutError, pool_from_config
from pyramid_baseplate_redis.settings.sources import load_client_settings

from ..support.servers import (
    MakeClient,
    RecordedSpans,
    Server,
    attributes,
    free_port,
    needs_debian_redis,
    open_sockets_to,
    running_server,
)


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
WEAKEST = "ALL:@SECLEVEL=0"  # OpenSSL's, with which it still speaks TLS 1.1
ONLY_TLS_1_1 = (
    *NO_CLIENT_CERTIFICATES, "--tls-protocols", "TLSv1.1", "--tls-ciphers", WEAKEST,
)  # fmt: skip
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
def test_a_refused_certificate_is_reported_by_the_span(
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
def test_a_server_with_the_least_version_of_tls_is_accepted(
    tls_server: StartTLSServer, certificates: Certificates, make_client: MakeClient
) -> None:
    url = tls_server(*ONLY_TLS_1_2).url
    assert make_client(url, **certificates.trusted, ssl_min_version="TLSv1.2").ping()


@needs_debian_redis
def test_a_server_without_the_least_version_of_tls_is_refused(
    tls_server: StartTLSServer, certificates: Certificates, make_client: MakeClient
) -> None:
    url = tls_server(*ONLY_TLS_1_2).url
    with pytest.raises(redis.ConnectionError, match="PROTOCOL_VERSION"):
        make_client(url, **certificates.trusted, ssl_min_version="TLSv1.3").ping()


def plain_tls_1_1(url: str, certificates: Certificates) -> bytes:
    """What a server answers to a PING over TLS 1.1."""
    context = ssl.create_default_context(cafile=certificates.certificate("authority"))
    context.minimum_version = ssl.TLSVersion.TLSv1_1
    context.set_ciphers(WEAKEST)
    address = ("127.0.0.1", int(url.rpartition(":")[2]))
    with (
        socket.create_connection(address, timeout=5) as plain,
        context.wrap_socket(plain, server_hostname="127.0.0.1") as wrapped,
    ):
        wrapped.sendall(b"PING\r\n")
        return wrapped.recv(100)


@needs_debian_redis
@pytest.mark.parametrize("where", ["settings", "query"])
@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
def test_no_ciphers_bring_back_tls_1_1(
    tls_server: StartTLSServer, certificates: Certificates, make_client: MakeClient, where: str
) -> None:
    url = tls_server(*ONLY_TLS_1_1).url
    assert plain_tls_1_1(url, certificates) == b"+PONG\r\n"  # there are clients that take it
    settings = {"ssl_ciphers": WEAKEST}
    if where == "query":
        url, settings = f"{url}?ssl_ciphers={quote(WEAKEST)}", {}
    with pytest.raises(redis.ConnectionError, match="PROTOCOL_VERSION"):
        make_client(url, **certificates.trusted, **settings).ping()


@pytest.mark.parametrize(
    "version",
    ["TLSv1.1", "TLSv1", "SSLv3", "1", "None", "", None, 0, 769, ssl.TLSVersion.MINIMUM_SUPPORTED],
)
def test_no_setting_allows_less_than_tls_1_2(version: Any) -> None:
    app_config = {"foo.url": "rediss://h", "foo.ssl_min_version": version}
    with pytest.raises(ConfigurationError, match=r"^foo\.ssl_min_version: "):
        load_client_settings(app_config, "foo.")


@pytest.mark.parametrize("version", ["TLSv1.1", "TLSv1", "SSLv3", "769", "0", ""])
def test_no_query_argument_allows_less_than_tls_1_2(version: str) -> None:
    with pytest.raises(ConfigurationError, match=r"^foo\.url: its query argument ssl_min_version"):
        load_client_settings({"foo.url": f"rediss://h?ssl_min_version={version}"}, "foo.")


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


# Never in plain


@needs_debian_redis
def test_a_plain_server_is_not_used_by_a_tls_client(
    tls_server: StartTLSServer, certificates: Certificates, make_client: MakeClient
) -> None:
    plain = tls_server(*NO_CLIENT_CERTIFICATES).plain
    url = plain.url.replace("redis://", "rediss://")
    client = make_client(url, **certificates.trusted, socket_timeout="300 milliseconds")
    with pytest.raises((redis.ConnectionError, redis.TimeoutError)):
        client.set("sent-in-plain", "value")
    assert not make_client(plain.url).exists("sent-in-plain")


def test_a_keyword_argument_does_not_make_a_tls_client_a_plain_one() -> None:
    with pytest.raises(TypeError, match="ssl_"):
        pool_from_config({"foo.url": "rediss://h"}, "foo.", connection_class=redis.Connection)


@pytest.fixture
def listener() -> Iterator[tuple[int, list[bytes]]]:
    """A plain server that accepts connections and keeps what it is sent; no Redis."""
    sent: list[bytes] = []

    def serve(listening: socket.socket) -> None:
        while True:
            try:
                connection, _ = listening.accept()
            except OSError:
                return
            with connection, suppress(OSError):
                sent.append(connection.recv(65_536))
                connection.sendall(b"-ERR this is no TLS\r\n")
                while more := connection.recv(65_536):
                    sent.append(more)

    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=serve, args=(listening,), daemon=True)
        thread.start()
        yield listening.getsockname()[1], sent
        listening.shutdown(socket.SHUT_RDWR)
        thread.join(5)


@pytest.mark.parametrize("verification", ["required", "none"])
def test_a_tls_client_sends_a_plain_server_nothing_but_handshakes(
    listener: tuple[int, list[bytes]], make_client: MakeClient, verification: str
) -> None:
    port, sent = listener
    client = make_client(
        f"rediss://:the-password@127.0.0.1:{port}", ssl_cert_reqs=verification, retries="2"
    )
    with pytest.raises(redis.ConnectionError):
        client.set("the-key", "value")
    assert len(sent) >= 3  # the first attempt and its repetitions
    assert {piece[:1] for piece in sent} <= {b"\x16", b"\x15"}  # handshakes and alerts of TLS
    assert not [word for word in (b"the-password", b"the-key", b"AUTH") if word in b"".join(sent)]
