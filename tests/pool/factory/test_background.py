"""Clients for background work: one connection, no retries, nothing that only requests need."""

from __future__ import annotations

from datetime import timedelta

from redis.backoff import NoBackoff
from redis.retry import Retry

from pyramid_baseplate_redis.pool.factory import background_settings, plain_client
from pyramid_baseplate_redis.settings.client import ClientSettings

from ...support.servers import Server

REQUESTS = {
    "foo.max_connections": "50",
    "foo.retries": "3",
    "foo.breaker_failures": "5",
    "foo.leak_warning": "1 second",
    "foo.max_idle_time": "1 minute",
    "foo.decode_responses": "true",
    "foo.socket_timeout": "7 seconds",
}


def test_what_only_requests_need_is_off() -> None:
    settings = ClientSettings.from_config({"foo.url": "redis://localhost", **REQUESTS}, "foo.")

    made = background_settings(settings, {})

    assert (made.max_connections, made.retries, made.breaker_failures) == (1, 0, 0)
    assert (made.leak_warning, made.max_idle_time) == (timedelta(0), timedelta(0))
    assert made.decode_responses is False
    assert made.socket_timeout == timedelta(seconds=7)


def test_hot_keys_are_not_tracked() -> None:
    rates = {
        "foo.track_key_reads_sample_rate": "50%",
        "foo.track_key_writes_sample_rate": "50%",
    }
    settings = ClientSettings.from_config({"foo.url": "redis://localhost", **rates}, "foo.")

    made = background_settings(settings, {})

    assert (made.track_key_reads_sample_rate, made.track_key_writes_sample_rate) == (0.0, 0.0)


def test_a_replica_is_not_used() -> None:
    url = "redis+sentinel://localhost/mymaster"
    settings = ClientSettings.from_config({"foo.url": url, "foo.read_from": "replica"}, "foo.")

    assert background_settings(settings, {}).read_from == "primary"

    url = "redis+cluster://localhost"
    values = {"foo.url": url, "foo.read_from_replicas": "true"}
    settings = ClientSettings.from_config(values, "foo.")

    assert background_settings(settings, {}).read_from_replicas is False


def test_keyword_arguments_for_requests_are_left_out_and_overrides_win() -> None:
    settings = ClientSettings.from_config({"foo.url": "redis://localhost"}, "foo.").overridden_by(
        {"retry": Retry(NoBackoff(), 3), "client_name": "requests", "socket_timeout": 7}
    )

    made = background_settings(settings, {"client_name": "background"})

    assert dict(made.keywords) == {"client_name": "background", "socket_timeout": 7}


def test_a_plain_client_has_one_connection_and_returns_bytes(valkey: Server) -> None:
    settings = ClientSettings.from_config({"foo.url": valkey.url, **REQUESTS}, "foo.")

    client = plain_client(settings, client_name="background")
    try:
        client.set("key", "value")
        assert client.get("key") == b"value"
        assert client.client_getname() == "background"
        assert client.connection_pool.max_connections == 1
    finally:
        client.connection_pool.disconnect()
