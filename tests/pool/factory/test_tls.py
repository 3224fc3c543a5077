"""TLS files and options: a mistake in them is an error when the pool is built."""

from __future__ import annotations

import pathlib
from collections.abc import Iterator

import pytest
import trustme
from cryptography.hazmat.primitives import serialization

from pyramid_baseplate_redis import ConfigurationError

from ...support.servers import free_port, needs_debian_redis, running_server
from .conftest import client, make_pool


class Certificates:
    """Certificates of one authority, as files."""

    def __init__(self, directory: pathlib.Path, name: str = "localhost") -> None:
        self.authority = trustme.CA()
        certificate = self.authority.issue_cert(name)
        self.ca = str(directory / "ca.pem")
        self.certificate = str(directory / "certificate.pem")
        self.key = str(directory / "key.pem")
        self.encrypted_key = str(directory / "encrypted.pem")
        self.authority.cert_pem.write_to_path(self.ca)
        certificate.cert_chain_pems[0].write_to_path(self.certificate)
        certificate.private_key_pem.write_to_path(self.key)
        key = serialization.load_pem_private_key(certificate.private_key_pem.bytes(), None)
        encrypted = key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"key-secret"),
        )
        pathlib.Path(self.encrypted_key).write_bytes(encrypted)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module")
def strange_certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """Those of an authority that nobody knows."""
    return Certificates(tmp_path_factory.mktemp("strange"))


def tls_refusal(**settings: str) -> str:
    with pytest.raises(ConfigurationError) as caught:
        make_pool("rediss://localhost", **settings)
    return str(caught.value)


@pytest.mark.parametrize("key", ["ssl_ca_certs", "ssl_certfile"])
def test_a_missing_tls_file_is_an_error_when_the_pool_is_built(
    key: str, tmp_path: pathlib.Path
) -> None:
    path = tmp_path / "missing.pem"
    assert tls_refusal(**{key: str(path)}) == (
        f"foo.{key}: cannot read {path}: No such file or directory"
    )


def test_a_missing_key_file_is_an_error_when_the_pool_is_built(
    certificates: Certificates, tmp_path: pathlib.Path
) -> None:
    path = tmp_path / "missing.pem"
    message = tls_refusal(ssl_certfile=certificates.certificate, ssl_keyfile=str(path))
    assert message == f"foo.ssl_keyfile: cannot read {path}: No such file or directory"


def test_a_missing_directory_of_authorities_is_an_error_when_the_pool_is_built(
    tmp_path: pathlib.Path,
) -> None:
    path = tmp_path / "missing"
    assert tls_refusal(ssl_ca_path=str(path)) == f"foo.ssl_ca_path: {path} is not a directory"


def test_a_file_without_a_certificate_is_an_error_when_the_pool_is_built(
    tmp_path: pathlib.Path,
) -> None:
    path = tmp_path / "nonsense.pem"
    path.write_text("nonsense")
    message = tls_refusal(ssl_ca_certs=str(path))
    assert message.startswith("foo.ssl_ca_certs: cannot be used for TLS (")


def test_data_without_a_certificate_is_an_error_when_the_pool_is_built() -> None:
    message = tls_refusal(ssl_ca_data="nonsense")
    assert message.startswith("foo.ssl_ca_data: cannot be used for TLS (")


def test_a_key_of_another_certificate_is_an_error_when_the_pool_is_built(
    certificates: Certificates, strange_certificates: Certificates
) -> None:
    message = tls_refusal(
        ssl_certfile=certificates.certificate, ssl_keyfile=strange_certificates.key
    )
    assert message == ("foo.ssl_keyfile: does not belong to the certificate in foo.ssl_certfile")


def test_a_file_with_a_certificate_and_a_key_of_another_is_an_error_when_the_pool_is_built(
    certificates: Certificates, strange_certificates: Certificates, tmp_path: pathlib.Path
) -> None:
    parts = [certificates.certificate, strange_certificates.key]
    path = tmp_path / "both.pem"
    path.write_text("".join(pathlib.Path(part).read_text() for part in parts))
    assert tls_refusal(ssl_certfile=str(path)).startswith("foo.ssl_certfile: ")


def test_a_certificate_without_its_key_is_an_error_when_the_pool_is_built(
    certificates: Certificates,
) -> None:
    message = tls_refusal(ssl_certfile=certificates.certificate)
    assert message.startswith("foo.ssl_certfile: ")


@pytest.mark.parametrize("password", [{}, {"ssl_password": "wrong-secret"}])
def test_a_key_that_its_password_does_not_open_is_an_error_when_the_pool_is_built(
    certificates: Certificates, password: dict[str, str]
) -> None:
    message = tls_refusal(
        ssl_certfile=certificates.certificate,
        ssl_keyfile=certificates.encrypted_key,
        **password,
    )
    assert message.startswith("foo.ssl_password: ")


def test_unknown_ciphers_are_an_error_when_the_pool_is_built() -> None:
    message = tls_refusal(ssl_ciphers="NONSENSE")
    assert message.startswith("foo.ssl_ciphers: ")


@pytest.fixture(scope="module")
def tls_server(
    certificates: Certificates, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[int]:
    """The TLS port of a server that wants to see a certificate of the client."""
    port = free_port()
    with running_server(
        "redis", tmp_path_factory.mktemp("tls"), "--tls-port", str(port),
        "--tls-cert-file", certificates.certificate, "--tls-key-file", certificates.key,
        "--tls-ca-cert-file", certificates.ca, "--tls-auth-clients", "yes",
    ):  # fmt: skip
        yield port


@pytest.fixture
def tls_settings(certificates: Certificates) -> dict[str, str]:
    return {
        "ssl_ca_certs": certificates.ca,
        "ssl_certfile": certificates.certificate,
        "ssl_keyfile": certificates.key,
    }


@needs_debian_redis
def test_a_tls_server_is_reached_with_an_encrypted_key(
    tls_server: int, tls_settings: dict[str, str], certificates: Certificates
) -> None:
    settings = {
        **tls_settings,
        "ssl_keyfile": certificates.encrypted_key,
        "ssl_password": "key-secret",
    }
    with client(f"rediss://localhost:{tls_server}", **settings) as redis_client:
        assert redis_client.ping()
