"""The errors that a deadline replaces, and the others, which stay as they are."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest
import redis
from redis.backoff import ConstantBackoff
from redis.retry import Retry

from pyramid_baseplate_redis import (
    BlockingConnectionPool,
    CircuitOpenError,
    DeadlineExceededError,
    MonitoredRedisConnection,
    is_retryable,
    pool_from_config,
)
from pyramid_baseplate_redis.deadlines import DeadlinePolicy

from ..faults.proxy import Proxy
from ..support.servers import MakeClient, Server
from .test_deadlines import DEADLINE, SECONDS, SLACK, exceeded, is_idle, silent_server


@pytest.fixture
def proxy(valkey: Server) -> Iterator[Proxy]:
    with Proxy(valkey.port) as running:
        yield running


def url_of(proxy: Proxy) -> str:
    return f"redis://127.0.0.1:{proxy.port}"


def test_a_command_that_watches_keys_is_no_conflict(make_client: MakeClient, proxy: Proxy) -> None:
    client = make_client(url_of(proxy), deadline=DEADLINE)
    pipeline = client.pipeline()
    pipeline.watch("key")
    proxy.freeze(True)
    error = exceeded(lambda: pipeline.get("key"))
    assert isinstance(error.__cause__, redis.WatchError)
    assert not pipeline.watching
    assert is_idle(client)


@pytest.mark.parametrize("function", ["execute", "transaction"])
def test_a_lost_reply_to_exec_is_no_conflict(
    make_client: MakeClient, proxy: Proxy, function: str
) -> None:
    client = make_client(url_of(proxy), deadline=DEADLINE)

    def change(pipeline: Any) -> None:
        pipeline.multi()
        pipeline.incr("key")
        proxy.delay(5)

    def executed() -> None:
        pipeline = client.pipeline()
        pipeline.watch("key")
        change(pipeline)
        pipeline.execute()

    def transacted() -> None:
        client.transaction(change, "key")

    error = exceeded(executed if function == "execute" else transacted)
    assert is_retryable(error) is None
    assert is_idle(client)
    assert str(error).startswith("foo.deadline: the 0.15 seconds passed while")


@pytest.mark.parametrize("pause", [0, SECONDS])
def test_to_leave_a_pipeline_that_watches_keys_is_bounded(
    make_client: MakeClient, proxy: Proxy, pause: float
) -> None:
    client = make_client(url_of(proxy))
    started = time.monotonic()
    with client.within(SECONDS).pipeline() as pipeline:
        pipeline.watch("key")
        proxy.freeze(True)
        time.sleep(pause)
    assert time.monotonic() - started < SECONDS + SLACK
    assert is_idle(client)
    assert client.connection_pool.stats.open == 0  # it still watches the key


def test_a_login_that_was_cut_off_can_be_repeated(proxy: Proxy) -> None:
    pool = pool_from_config({"foo.url": url_of(proxy)}, "foo.", socket_timeout=None)
    with MonitoredRedisConnection("foo", None, pool).client() as client:
        assert client.ping()
        proxy.reset_connections()
        with pytest.raises(redis.ConnectionError):
            client.ping()
        proxy.freeze(True)
        exceeded(lambda: client.within(SECONDS).ping())
        proxy.freeze(False)
        assert client.ping()


def test_a_client_with_one_connection_is_made_in_time(
    make_client: MakeClient, proxy: Proxy
) -> None:
    client = make_client(url_of(proxy))
    proxy.freeze(True)
    error = exceeded(client.within(SECONDS).client)
    assert error.phase == "connecting"
    assert is_idle(client)


def test_a_real_conflict_stays_one(make_client: MakeClient, valkey: Server) -> None:
    client = make_client(valkey, deadline=DEADLINE)
    with client.pipeline() as pipeline:
        pipeline.watch("key")
        client.set("key", "changed")
        pipeline.multi()
        pipeline.get("key")
        with pytest.raises(redis.WatchError):
            pipeline.execute()


@pytest.mark.parametrize(
    "error",
    [
        CircuitOpenError("open"),
        redis.AuthenticationError("wrong password"),
        redis.ResponseError("WRONGTYPE"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_an_error_that_is_no_wait_stays_after_the_deadline(error: Exception) -> None:
    def late() -> None:
        time.sleep(0.02)
        raise error

    with pytest.raises(type(error)) as caught:
        DeadlinePolicy("foo", 0.01).run(late)
    assert caught.value is error


def test_a_deadline_of_a_millisecond_tells_refused_connections_from_waits() -> None:
    def refused() -> None:
        raise redis.ConnectionError("refused")

    caught = []
    for _ in range(50):  # on a busy machine, 1.5 ms pass between two lines
        with pytest.raises((redis.ConnectionError, DeadlineExceededError)) as each:
            DeadlinePolicy("foo", 0.0015).run(refused)
        caught.append(type(each.value))
    assert redis.ConnectionError in caught


def test_the_error_of_a_transactions_repetitions_names_the_setting(
    make_client: MakeClient, valkey: Server
) -> None:
    client, other = make_client(valkey, deadline=DEADLINE), make_client(valkey)

    def disturbed(pipeline: Any) -> None:
        other.incr("watched")
        pipeline.multi()
        pipeline.get("watched")

    error = exceeded(lambda: client.transaction(disturbed, "watched"))
    assert str(error).startswith(f"foo.deadline: the {SECONDS} seconds passed")


def test_sentinels_without_an_answer_in_time_do_not_count_as_failed(
    make_client: MakeClient,
) -> None:
    with silent_server() as one, silent_server() as other:
        hosts = f"{one},{other}".replace("redis://", "")
        url = f"redis+sentinel://{hosts}/mymaster"
        client = make_client(url, deadline=DEADLINE, breaker_failures="1")
        for _ in range(2):
            error = exceeded(lambda: client.get("key"))
            assert is_retryable(error) is True


class OwnConnection:
    """A connection class of the application, which derives from none of redis-py's."""

    def __init__(self, **keywords: Any) -> None:
        self.__dict__["plain"] = redis.Connection(**keywords)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__dict__["plain"], name)

    def __setattr__(self, name: str, value: Any) -> None:
        target = self.__dict__ if name == "slot" else vars(self.plain)
        target[name] = value


@pytest.mark.parametrize(
    "make_pool",
    [
        redis.ConnectionPool,
        lambda **keywords: BlockingConnectionPool(
            connection_class=lambda **of_connection: OwnConnection(**of_connection), **keywords
        ),
    ],
    ids=["another pool", "another connection class"],
)
def test_a_connection_that_records_no_phases_may_have_sent_the_command(
    proxy: Proxy, make_pool: Any
) -> None:
    pool = make_pool(host="127.0.0.1", port=proxy.port, socket_timeout=SECONDS + 0.05)
    client = MonitoredRedisConnection("foo", None, pool)
    assert client.set("key", 1)
    proxy.delay(1)
    with pytest.raises(DeadlineExceededError) as caught:
        client.within(SECONDS).incr("key")
    assert is_retryable(caught.value) is None
    assert "max_connections" not in str(caught.value)
    pool.disconnect()


@pytest.mark.parametrize("bounded", [True, False])
def test_a_command_that_redis_py_sends_again_is_not_unsent(proxy: Proxy, bounded: bool) -> None:
    retry = Retry(ConstantBackoff(0.05), 3)
    pool = pool_from_config({"foo.url": url_of(proxy)}, "foo.", retry=retry)
    client = MonitoredRedisConnection("foo", None, pool)
    assert client.set("key", 0)
    proxy.lose_replies(True)
    proxy.refuse(True)  # the connection that is open stays open, until the reply is lost
    with pytest.raises((redis.ConnectionError, redis.TimeoutError)) as caught:
        (client.within(SECONDS - 0.05) if bounded else client).incr("key")
    assert isinstance(caught.value, DeadlineExceededError) == bounded
    assert is_retryable(caught.value) is None
    pool.disconnect()


def test_a_lock_does_not_sleep_beyond_the_end_of_its_block(
    make_client: MakeClient, valkey: Server
) -> None:
    client = make_client(valkey)
    client.set("lock", "taken")
    exceeded(lambda: client.within(SECONDS).lock("lock", sleep=3).acquire())
    client.delete("lock")
    with client.within(5).lock("lock", sleep=3, timeout=5):
        assert client.exists("lock")


def test_the_last_attempt_is_at_the_end_of_the_block() -> None:
    block = DeadlinePolicy("foo", None).within(0.25)
    assert block.pause(0.1) == pytest.approx(0.25 / 3, abs=0.01)
    assert DeadlinePolicy("foo", 5).pause(0.1) == 0.1  # each attempt is a call of its own


def test_the_retries_of_a_queue_are_one_call(make_client: MakeClient) -> None:
    client = make_client("redis://127.0.0.1:1", deadline=DEADLINE, retries="100")
    error = exceeded(lambda: client.durable_queue("jobs").put(b"message"))
    assert error.spent["waiting before a retry"] > SECONDS / 2
    assert is_retryable(error) is True
