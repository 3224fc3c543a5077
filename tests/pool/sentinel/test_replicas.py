"""With read_from = replica, a replica answers reads and is left when it is promoted."""

from __future__ import annotations

import pytest
import redis

from ...support.servers import RecordedSpans
from ...support.topologies import SentinelSet
from .conftest import MakeFoo, ask, pool_of, ports


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
