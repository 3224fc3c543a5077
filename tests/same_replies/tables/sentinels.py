"""What one asks a Sentinel."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import redis

from ...support.topologies import SERVICE
from ..entries import Group, call, nothing
from ..outcomes import kinds, kinds_of_items


def _given(plain: Any) -> None:
    with suppress(redis.ResponseError):
        plain.sentinel_remove("other")


def _other(plain: Any) -> None:
    plain.sentinel_monitor("other", "127.0.0.1", 1, 9)


SENTINELS = Group(
    "a Sentinel",
    nothing,
    [
        call.ping(),
        call.sentinel_get_master_addr_by_name(SERVICE),
        call.sentinel_get_master_addr_by_name("nosuch"),
        call.sentinel_get_master_addr_by_name(SERVICE, return_responses=True),
        call.sentinel_get_master_addr_by_name("nosuch", return_responses=True),
        call.sentinel_master(SERVICE).by(kinds),
        call.sentinel_master(SERVICE, return_responses=True).by(kinds),
        call.sentinel_master("nosuch"),
        call.sentinel_masters().by(kinds),
        call.sentinel_slaves(SERVICE).by(kinds_of_items),
        call.sentinel_slaves("nosuch"),
        call.sentinel_sentinels(SERVICE).by(kinds_of_items),
        call.sentinel_sentinels(SERVICE, return_responses=True).by(kinds_of_items),
        call.sentinel_ckquorum(SERVICE),
        call.sentinel_ckquorum("nosuch"),
        call.sentinel_flushconfig(),
        call.sentinel_monitor("other", "127.0.0.1", 1, 9),
        call.sentinel_monitor(SERVICE, "127.0.0.1", 1, 9),
        call.sentinel_remove("other").after(_other),
        call.sentinel_remove("nosuch"),
        call.sentinel_reset("nosuch*"),
        call.sentinel_set("other", "quorum", 3).after(_other),
        call.sentinel_set("other", "nosuch", 3).after(_other),
        call.sentinel_failover("nosuch"),
        call.sentinel("MASTERS").by(kinds),
        call.role().by(kinds),
        call.info("sentinel").by(kinds),
        call.get("x"),
        call.client_getname(),
        call.client_info().by(kinds),
    ],
    _given,
)
