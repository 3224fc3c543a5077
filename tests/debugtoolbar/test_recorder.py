"""The recorder of a request's operations: what it keeps of them, how much, and what not."""

from __future__ import annotations

import gc
import threading
import time
import weakref
from contextlib import suppress
from typing import Any

import pytest
import redis

from pyramid_baseplate_redis import MonitoredRedisConnection
from pyramid_baseplate_redis.debugtoolbar.recorder import (
    MOST_COMMANDS,
    MOST_OF_PIPELINE,
    Recorder,
)
from pyramid_baseplate_redis.debugtoolbar.records import (
    MOST_VALUES,
    RecordedOperation,
    ReplySize,
    Totals,
    reply_size,
)
from pyramid_baseplate_redis.telemetry.operations import current_observer, observer_of

from ..support.servers import MakeClient, Server, wait_until

SECRET = "hunter2"


@pytest.fixture
def recorder() -> Recorder:
    return Recorder()


@pytest.fixture
def foo(make_client: MakeClient, valkey: Server, recorder: Recorder) -> MonitoredRedisConnection:
    """A client whose operations are recorded."""
    client = make_client(valkey, max_connections="2")
    client.observed_by(recorder)
    return client


def one(recorder: Recorder) -> RecordedOperation:
    """The only operation."""
    (operation,) = recorder.recording().operations
    return operation


class TestCommand:
    def test_is_kept_as_one_would_type_it(
        self, foo: MonitoredRedisConnection, recorder: Recorder
    ) -> None:
        foo.set("user:1", "a b", ex=5)

        assert (one(recorder).name, one(recorder).commands) == (
            "SET",
            ('SET user:1 "a b" EX 5',),
        )

    def test_has_the_name_of_its_client(
        self, foo: MonitoredRedisConnection, recorder: Recorder
    ) -> None:
        foo.ping()

        assert one(recorder).client == "foo"

    def test_has_the_line_that_issued_it(
        self, foo: MonitoredRedisConnection, recorder: Recorder
    ) -> None:
        foo.ping()

        assert one(recorder).lines[0].function == "test_has_the_line_that_issued_it"
        assert one(recorder).lines[0].path == "tests/debugtoolbar/test_recorder.py"

    def test_has_its_time_within_the_recorders(
        self, foo: MonitoredRedisConnection, recorder: Recorder
    ) -> None:
        foo.ping()
        foo.ping()

        first, second = recorder.recording().operations
        assert 0 < first.at < first.at + first.duration <= second.at
        assert second.at + second.duration == recorder.recording().seconds

    def test_has_the_size_of_its_reply(
        self, foo: MonitoredRedisConnection, recorder: Recorder
    ) -> None:
        foo.rpush("list", "abc", "de")
        foo.lrange("list", 0, -1)

        assert recorder.recording().operations[1].size == ReplySize(5)

    def test_has_its_error(self, foo: MonitoredRedisConnection, recorder: Recorder) -> None:
        foo.set("a", 1)
        with suppress(redis.ResponseError):
            foo.lpush("a", 1)

        error = recorder.recording().operations[1].error
        assert error is not None
        assert error.startswith("ResponseError: WRONGTYPE Operation against a key")

    def test_without_an_error_has_none(
        self, foo: MonitoredRedisConnection, recorder: Recorder
    ) -> None:
        foo.ping()

        assert one(recorder).error is None

    def test_long_error_is_cut_off(self, foo: MonitoredRedisConnection, recorder: Recorder) -> None:
        with suppress(redis.ResponseError):
            foo.eval("return redis.error_reply('ERR ' .. string.rep('x', 1000))", 0)

        assert len(one(recorder).error or "") == 200

    def test_that_waited_for_a_connection_tells_how_long(
        self, foo: MonitoredRedisConnection, recorder: Recorder
    ) -> None:
        pool: Any = foo.connection_pool
        held = [pool.get_connection(), pool.get_connection()]
        thread = threading.Thread(target=foo.ping)
        thread.start()
        wait_until(lambda: pool.stats.waiting)
        for connection in held:
            pool.release(connection)
        thread.join()

        assert 0 < one(recorder).waited < one(recorder).duration

    def test_of_a_message_queue_is_kept(
        self, foo: MonitoredRedisConnection, recorder: Recorder
    ) -> None:
        foo.message_queue("jobs").put("work")

        assert one(recorder).commands == ("RPUSH jobs work",)

    def test_of_a_subscriber_is_kept(
        self, foo: MonitoredRedisConnection, recorder: Recorder
    ) -> None:
        with foo.pubsub() as subscriber:
            subscriber.subscribe("news")

        assert one(recorder).commands == ("SUBSCRIBE news",)


class TestPipeline:
    def test_has_its_name_and_its_commands(
        self, foo: MonitoredRedisConnection, recorder: Recorder
    ) -> None:
        with foo.pipeline("load_page") as pipeline:
            pipeline.get("a").hgetall("b").execute()

        assert one(recorder).name == "pipeline_load_page"
        assert one(recorder).commands == ("GET a", "HGETALL b")

    def test_keeps_its_first_commands_and_counts_the_rest(
        self, foo: MonitoredRedisConnection, recorder: Recorder
    ) -> None:
        with foo.pipeline() as pipeline:
            for number in range(MOST_OF_PIPELINE + 10):
                pipeline.get(f"key:{number}")
            pipeline.execute()

        assert len(one(recorder).commands) == MOST_OF_PIPELINE
        assert one(recorder).left_out == 10
        assert recorder.recording().total.commands == MOST_OF_PIPELINE + 10

    def test_failure_among_its_results_is_its_error(
        self, foo: MonitoredRedisConnection, recorder: Recorder
    ) -> None:
        with foo.pipeline() as pipeline:
            pipeline.set("a", 1).lpush("a", 1).execute(raise_on_error=False)

        assert "WRONGTYPE" in (one(recorder).error or "")

    def test_watched_key_that_has_changed_is_no_error(
        self, foo: MonitoredRedisConnection, recorder: Recorder
    ) -> None:
        with foo.pipeline() as pipeline, suppress(redis.WatchError):
            pipeline.watch("a")
            foo.set("a", 1)
            pipeline.multi()
            pipeline.set("a", 2).execute()

        assert [operation.error for operation in recorder.recording().operations] == [None] * 3


class TestSecrets:
    @pytest.mark.parametrize(
        "args",
        [
            ("AUTH", SECRET),
            ("HELLO", "3", "AUTH", "default", SECRET),
            ("ACL SETUSER", "somebody", f">{SECRET}"),
            ("CONFIG SET", "nonsense", SECRET),
            ("MIGRATE", "127.0.0.1", "1", "key", "0", "1", "AUTH", SECRET),
        ],
    )
    def test_neither_arguments_nor_error_of_a_command_that_bears_a_password(
        self, foo: MonitoredRedisConnection, recorder: Recorder, args: tuple[str, ...]
    ) -> None:
        with suppress(redis.RedisError):
            foo.execute_command(*args)
        with foo.pipeline() as pipeline, suppress(redis.RedisError):
            pipeline.execute_command(*args)
            pipeline.execute()

        recording = recorder.recording()
        assert len(recording.operations) == 2
        assert SECRET not in repr(recording)

    def test_error_whose_text_repeats_a_password_is_reported_by_its_code(
        self, foo: MonitoredRedisConnection, recorder: Recorder
    ) -> None:
        with suppress(redis.ResponseError):
            foo.execute_command("CONFIG SET", "nonsense", SECRET)

        assert one(recorder).error == "ResponseError: ERR"

    def test_value_that_no_rule_knows_is_shown_cut_short(
        self, foo: MonitoredRedisConnection, recorder: Recorder
    ) -> None:
        foo.set("session:1", "x" * 1000)

        assert one(recorder).commands == (f"SET session:1 {'x' * 59}…",)


class TestTotals:
    def test_are_kept_for_each_client(
        self, make_client: MakeClient, foo: MonitoredRedisConnection, recorder: Recorder
    ) -> None:
        bar = MonitoredRedisConnection("bar", None, foo.connection_pool)
        bar.observed_by(recorder)
        foo.ping()
        with bar.pipeline() as pipeline:
            pipeline.get("a").get("b").execute()

        clients = recorder.recording().clients
        assert {name: totals.commands for name, totals in clients.items()} == {"foo": 1, "bar": 2}

    def test_count_commands_times_bytes_and_errors(
        self, foo: MonitoredRedisConnection, recorder: Recorder
    ) -> None:
        foo.set("a", "12345")
        foo.get("a")
        with suppress(redis.ResponseError):
            foo.lpush("a", 1)
        recording = recorder.recording()

        total = recording.total
        assert (total.operations, total.commands, total.errors) == (3, 3, 1)
        assert total.duration == pytest.approx(sum(item.duration for item in recording.operations))
        assert total.size == sum((item.size for item in recording.operations), ReplySize())

    def test_of_nothing_are_nothing(self, recorder: Recorder) -> None:
        assert recorder.recording().clients == {}
        assert recorder.recording().seconds == 0


class TestBounds:
    def test_operations_beyond_500_commands_are_counted(
        self, foo: MonitoredRedisConnection, recorder: Recorder
    ) -> None:
        for _ in range(MOST_COMMANDS + 7):
            foo.ping()

        recording = recorder.recording()
        assert len(recording.operations) == MOST_COMMANDS == 500
        assert recording.left_out == 7
        assert recording.total.operations == MOST_COMMANDS + 7
        assert [group.count for group in recording.groups] == [MOST_COMMANDS + 7]

    def test_commands_in_pipelines_count_too(
        self, foo: MonitoredRedisConnection, recorder: Recorder
    ) -> None:
        for _ in range(MOST_COMMANDS // 10 + 5):
            with foo.pipeline() as pipeline:
                for _ in range(10):
                    pipeline.get("a")
                pipeline.execute()

        assert recorder.recording().left_out == 5

    def test_nothing_that_a_command_or_its_reply_had_is_kept_alive(
        self, make_client: MakeClient, valkey: Server, recorder: Recorder
    ) -> None:
        class Value(str):
            __slots__ = ("__weakref__",)

        client = make_client(valkey)
        client.observed_by(recorder)
        value = Value("x" * 1000)
        client.set("a", value)
        kept = [weakref.ref(client), weakref.ref(value)]
        del client, value
        gc.collect()

        assert [reference() for reference in kept] == [None, None]

    def test_operations_of_one_line_are_a_group(
        self, foo: MonitoredRedisConnection, recorder: Recorder
    ) -> None:
        for number in range(3):
            foo.get(f"key:{number}")
        foo.get("key:3")

        groups = recorder.recording().groups
        assert [group.count for group in groups] == [3, 1]
        assert [group.is_same for group in groups] == [False, True]

    def test_same_command_from_one_line_is_distinguished_from_the_same_name(
        self, foo: MonitoredRedisConnection, recorder: Recorder
    ) -> None:
        for _ in range(3):
            foo.get("key")

        (group,) = recorder.recording().groups
        assert group.is_same

    @pytest.mark.parametrize(
        ("command", "is_blocking"),
        [
            (("BLPOP", "a", 1), True),
            (("XREAD", "BLOCK", 1, "STREAMS", "a", "0"), True),
            (("XREAD", "COUNT", 1, "STREAMS", "a", "0"), False),
            (("GET", "a"), False),
        ],
    )
    def test_group_knows_whether_its_command_is_meant_to_wait(
        self,
        foo: MonitoredRedisConnection,
        recorder: Recorder,
        command: tuple[Any, ...],
        is_blocking: bool,
    ) -> None:
        foo.rpush("a", 1)
        with suppress(redis.ResponseError):
            foo.execute_command(*command)

        assert recorder.recording().groups[1].is_blocking is is_blocking


class TestThreads:
    def test_operations_of_many_threads_are_all_counted(
        self,
        foo: MonitoredRedisConnection,
        recorder: Recorder,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        inside, together = [], []
        add = Totals.add

        def slowly_add(self: Totals, other: Totals) -> None:
            inside.append(self)
            time.sleep(0.001)
            together.append(len(inside))
            add(self, other)
            inside.pop()

        monkeypatch.setattr(Totals, "add", slowly_add)

        def work() -> None:
            for _ in range(10):
                foo.ping()

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        assert set(together) == {1}
        recording = recorder.recording()
        assert recording.total.operations == 40
        starts = [operation.at for operation in recording.operations]
        assert starts == sorted(starts)


class TestCurrentRecorder:
    def test_there_is_none_where_nothing_is_recorded(self) -> None:
        assert observer_of({}) is None

    def test_is_the_one_that_records(self, recorder: Recorder) -> None:
        assert recorder.record({}, lambda: observer_of({})) is recorder

    def test_is_none_again_at_the_end(self, recorder: Recorder) -> None:
        with suppress(ZeroDivisionError):
            recorder.record({}, lambda: 1 // 0)

        assert current_observer.get() is None

    def test_within_another_is_the_inner_one(self, recorder: Recorder) -> None:
        inner = Recorder()

        found = recorder.record({}, lambda: inner.record({}, lambda: observer_of({})))

        assert found is inner

    def test_request_keeps_its_own(self, recorder: Recorder) -> None:
        environ: dict[str, Any] = {}
        recorder.record(environ, lambda: None)

        assert observer_of(environ) is recorder
        assert Recorder().record({}, lambda: observer_of(environ)) is recorder

    def test_recording_tells_when_the_response_was_there(self, recorder: Recorder) -> None:
        assert recorder.record({}, lambda: recorder.recording().handled) is None
        assert recorder.recording().handled == recorder.recording().seconds > 0


class TestReplySize:
    @pytest.mark.parametrize(
        ("reply", "size"),
        [
            (None, 0),
            (b"abc", 3),
            ("abc", 3),
            (1234, 4),
            ([b"a", [b"bc", None], (b"d",)], 4),
            ({b"a": [b"bc"], b"d": {b"e": 1.5}}, 8),
            ({b"ab", b"c"}, 3),
            (object(), 0),
            ([], 0),
        ],
    )
    def test_is_that_of_its_values(self, reply: object, size: int) -> None:
        assert reply_size(reply) == ReplySize(size)

    def test_of_very_many_values_is_counted_no_further(self) -> None:
        reply = [b"ab"] * 10_000_000

        assert reply_size(reply) == ReplySize(2 * (MOST_VALUES - 1), is_least=True)

    def test_iterator_is_not_used_up(self) -> None:
        reply = iter([b"ab"])

        reply_size(reply)

        assert next(reply) == b"ab"
