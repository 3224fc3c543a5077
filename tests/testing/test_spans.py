"""Spans are recorded for a test."""

from __future__ import annotations

from typing import Any

import pytest
from opentelemetry import trace
from webtest import TestApp

from pyramid_baseplate_redis.testing.spans import RecordedSpans, record_spans

from ..support.tested_app import app_of, run_python

pytest_plugins = ["pyramid_baseplate_redis.testing.fixtures"]


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

    def test_another_packages_provider_is_an_error(self) -> None:
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
