"""Commands that change the state of the connection that sends them."""

from __future__ import annotations

from typing import Any

from ..entries import Group, call
from ..outcomes import kinds


def _keys(plain: Any) -> None:
    plain.set("{k}a", "x")


CONNECTIONS = Group(
    "the connection",
    _keys,
    [
        call.auth("anything", "default"),
        call.client_setname("name"),
        call.client_setname("no spaces"),
        call.client_setinfo("LIB-NAME", "x"),
        call.client_setinfo("nosuchinfo", "x"),
        call.client_no_evict("ON"),
        call.client_no_touch("ON"),
        call.client_tracking_on(),
        call.client_tracking_off(),
        call.client_tracking(),
        call.client_trackinginfo(),
        call.hello().by(kinds),
        call.select(1),
        call.select(9999),
        call.readonly(),
        call.readwrite(),
        call.execute_command("ASKING"),
        call.reset(),
        call.execute_command("DISCARD"),
        call.execute_command("EXEC"),
        call.execute_command("UNWATCH"),
        call.execute_command("WATCH", "{k}a"),
        call.himport_prepare("fields", ["a", "b"]),
        call.himport_discard("fields"),
        call.himport_discard_all(),
    ],
    spoils_connections=True,
)

# Not on a Cluster, whose pipelines in redis-py send again what failed so.
CLOSING = Group(
    "the end of a connection",
    _keys,
    [call.auth("wrong", "nobody"), call.auth("wrong"), call.quit()],
    spoils_connections=True,
)
