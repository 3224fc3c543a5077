"""``flush()`` and ``dummy_request()``: each process has empty servers and clients of its own."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from opentelemetry import trace
from opentelemetry.trace import INVALID_SPAN, SpanKind
from pyramid import testing as pyramid_testing
from pyramid.testing import DummyRequest
from webtest import TestApp

from pyramid_baseplate_redis import ConfigurationError, MessageQueue, MonitoredRedisConnection
from pyramid_baseplate_redis.testing import add_clients, dummy_request, flush
from pyramid_baseplate_redis.testing.application import plain_client
from pyramid_baseplate_redis.testing.spans import RecordedSpans
from pyramid_baseplate_redis.testing.stand_in_servers import stand_in

from ..support.servers import running_server
from ..support.tested_app import NOBODY, app_of, count, keys_of, make_app, run_python

pytest_plugins = ["pyramid_baseplate_redis.testing.fixtures"]


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
