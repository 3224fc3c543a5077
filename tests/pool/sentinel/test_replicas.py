"""With read_from = replica, a replica answers reads and is left when it is promoted."""

from __future__ import annotations

from typing import Any

import pytest
import redis
from redis.sentinel import SlaveNotFoundError

from pyramid_baseplate_redis.pool.sentinel.discovery import SentinelClient

from ...support.fake_sentinel import FakeSentinel, manager_of
from ...support.servers import RecordedSpans
from ...support.topologies import SentinelSet
from .conftest import NOWHERE, MakeFoo, ask, error_of, pool_of, ports


def test_a_replica_answers_where_it_is_read_from(
    valkeys: SentinelSet, make_foo: MakeFoo, spans: RecordedSpans
) -> None:
    make_foo(valkeys, read_from="replica").get("key")
    assert ports(spans) == [("foo.GET", valkeys.replica().port)]


def test_a_replica_takes_no_writes(valkeys: SentinelSet, make_foo: MakeFoo) -> None:
    foo = make_foo(valkeys, read_from="replica")
    with pytest.raises(redis.ReadOnlyError):
        foo.set("key", "value")


def test_the_primary_answers_where_there_is_no_replica(
    valkeys: SentinelSet, make_foo: MakeFoo, spans: RecordedSpans
) -> None:
    primary, replica = valkeys.primary(), valkeys.replica()
    replica.kill()

    def is_known() -> bool:
        clients = [sentinel.client for sentinel in valkeys.sentinels]
        return all("s_down" in c.sentinel_slaves("mymaster")[0]["flags"] for c in clients)

    valkeys.wait_until(is_known, "known to be down")
    make_foo(valkeys, read_from="replica").get("key")
    assert ports(spans) == [("foo.GET", primary.port)]


def test_a_replica_that_was_promoted_is_left(valkeys: SentinelSet, make_foo: MakeFoo) -> None:
    pool = pool_of(make_foo(valkeys, read_from="replica"))
    idle, in_use = pool.get_connection(), pool.get_connection()
    pool.release(idle)
    pool.switched((valkeys.replica().host, valkeys.replica().port))
    assert pool.stats.idle == 0
    with pytest.raises(redis.ConnectionError):
        ask(in_use)
    pool.release(in_use)


class _Sentinel(FakeSentinel):
    """Answers with replicas, or fails."""

    def __init__(self, number: int, replicas: Any) -> None:
        super().__init__(number)
        self.replicas = replicas

    def sentinel_slaves(self, service_name: str) -> Any:
        self.asked += 1
        if isinstance(self.replicas, Exception):
            raise self.replicas
        return self.replicas


def _replica(port: int, is_down: bool = False) -> dict[str, Any]:
    return {"ip": "10.0.0.1", "port": port, "is_odown": False, "is_sdown": is_down}


def test_sentinels_that_do_not_answer_are_asked_once(make_foo: MakeFoo) -> None:
    silent = [_Sentinel(number, redis.TimeoutError(f"{number} is late")) for number in range(3)]
    pool = pool_of(make_foo("redis+sentinel://127.0.0.1:1/mymaster", read_from="replica"))
    pool.unsubscribed.clear()
    pool.sentinel_manager.sentinels = silent
    with pytest.raises(SlaveNotFoundError, match="'mymaster'"):
        pool.get_connection()
    assert [sentinel.asked for sentinel in silent] == [1, 1, 1]


def test_the_error_has_each_sentinels_reason(make_foo: MakeFoo) -> None:
    text = str(error_of(make_foo(NOWHERE, read_from="replica").ping))
    assert text.startswith("foo: No slave found for 'mymaster' : 127.0.0.1:1 - ConnectionError: ")
    assert "127.0.0.1:2 - ConnectionError: Error 111" in text
    assert text.count("foo: ") == 1


def test_the_sentinel_that_answered_is_asked_first() -> None:
    silent = _Sentinel(1, redis.ConnectionError("gone"))
    refusing = _Sentinel(2, redis.AuthenticationError("no"))
    without = _Sentinel(3, [_replica(1, is_down=True)])
    answering = _Sentinel(4, [_replica(1, is_down=True), _replica(2)])
    manager = manager_of(silent, refusing, without, answering)
    for _ in range(2):
        assert manager.discover_slaves("mymaster") == [("10.0.0.1", 2)]
    assert manager.sentinels == [without, answering, silent, refusing]
    assert (silent.asked, refusing.asked, answering.asked) == (1, 1, 2)


def test_a_sentinel_that_refuses_the_password_is_not_one_that_does_not_answer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(self: redis.Redis, service_name: str) -> None:
        raise redis.AuthenticationError("no")

    monkeypatch.setattr(redis.Redis, "sentinel_slaves", refuse)
    with pytest.raises(redis.AuthenticationError):
        SentinelClient().sentinel_slaves("mymaster")


@pytest.mark.parametrize("answer", [redis.AuthenticationError("no"), redis.ResponseError("no"), []])
def test_without_replicas_the_primary_is_looked_for(answer: Any) -> None:
    manager = manager_of(_Sentinel(1, redis.TimeoutError("late")), _Sentinel(2, answer))
    assert manager.discover_slaves("mymaster") == []
