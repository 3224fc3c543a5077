"""The server: its clients, users, settings, memory, log and statistics."""

from __future__ import annotations

import socket
import time
from typing import Any

from ..entries import Entry, Group, call
from ..outcomes import in_order, kinds, kinds_of_items, sorted_kinds
from .users import port_of

K = "{k}a"
_NEVER = 9_999_999  # no client has this id


def _keys(plain: Any) -> None:
    plain.set(K, "x")


def _no_statistics(plain: Any) -> None:
    plain.config_resetstat()


def _nothing_slow(plain: Any) -> None:
    plain.slowlog_reset()


def _slow(plain: Any) -> None:
    plain.slowlog_reset()
    plain.config_set("slowlog-log-slower-than", 0)
    plain.get(K)
    plain.config_set("slowlog-log-slower-than", 10_000)


def _nothing_saved_now(plain: Any) -> None:
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        state = plain.info("persistence")
        if not (
            state["rdb_bgsave_in_progress"]
            or state["aof_rewrite_in_progress"]
            or state["aof_rewrite_scheduled"]
        ):
            return
        time.sleep(0.002)


class _Victim:
    """A connection to be killed."""

    address = ""

    def connect(self, plain: Any) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port_of(plain)))
        self.address = "{}:{}".format(*self.socket.getsockname())
        while not any(line["addr"] == self.address for line in plain.client_list()):
            time.sleep(0.001)


_victim = _Victim()
_kill = Entry("client_kill(address)", lambda client: client.client_kill(_victim.address))
_kill_addr = Entry(
    "client_kill_filter(addr=address)",
    lambda client: client.client_kill_filter(addr=_victim.address),
)


def _sampled(result: Any) -> Any:
    """A few of hundreds of commands."""
    return type(result), {name: kinds(result[name]) for name in ("get", "zadd", "xread")}


SERVERS = Group(
    "the server",
    _keys,
    [
        call.ping(),
        call.echo("x"),
        call.time().by(kinds),
        call.lastsave().by(kinds),
        call.role().by(kinds),
        call.lolwut().by(kinds),
        call.info("server").by(sorted_kinds),
        call.info("clients", "memory").by(sorted_kinds),
        call.info("commandstats").after(_no_statistics).by(kinds),
        call.info("keyspace").by(kinds),
        call.info("replication").by(sorted_kinds),
        call.info("nosuchsection"),
        call.config_get("maxmemory"),
        call.config_get("maxmemory*"),
        call.config_get("nosuchsetting"),
        call.config_get("save", "appendonly"),
        call.config_set("maxmemory-samples", 5),
        call.config_set("nosuchsetting", 1),
        call.config_set("maxmemory-samples", 5, "lfu-decay-time", 1),
        call.config_resetstat(),
        call.config_rewrite(),
        call.command_count(),
        call.command_list().by(in_order),
        call.command_list(category="geo").by(in_order),
        call.command_getkeys("MSET", "{k}a", 1, "{k}b", 2),
        call.command_getkeys("PING"),
        call.command_getkeysandflags("SET", "{k}a", 1),
        call.command_docs("GET"),
        call.command_info(),
        call.latency_histogram("get").by(kinds),
        call.latency_history("command"),
        call.latency_latest(),
        call.latency_reset(),
        call.memory_stats().by(sorted_kinds),
        call.memory_purge(),
        call.memory_doctor(),
        call.memory_help(),
        call.memory_malloc_stats().by(kinds),
        call.module_list(),
        call.module_load("/nonexistent.so"),
        call.module_unload("nosuchmodule"),
        call.module_loadex("/nonexistent.so"),
        call.object("help", K),
        call.debug_object(K).by(kinds),
        call.debug_object("{k}missing"),
        call.publish("{k}channel", "x"),
        call.spublish("{k}channel", "x"),
        call.pubsub_channels(),
        call.pubsub_numpat(),
        call.pubsub_numsub("{k}channel"),
        call.pubsub_numsub(),
        call.pubsub_shardchannels(),
        call.pubsub_shardnumsub("{k}channel"),
        call.slowlog_get().after(_slow).by(kinds_of_items),
        call.slowlog_get(1).after(_slow).by(kinds_of_items),
        call.slowlog_get().after(_nothing_slow),
        call.slowlog_len().after(_nothing_slow),
        call.slowlog_reset(),
        call.client_id().by(kinds),
        call.client_getname(),
        call.client_getredir(),
        call.client_info().by(kinds),
        call.client_list().by(kinds_of_items),
        call.client_list(_type="pubsub").by(kinds_of_items),
        call.client_list(client_id=[_NEVER]),
        call.client_kill("127.0.0.1:1"),
        _kill.after(_victim.connect),
        _kill_addr.after(_victim.connect),
        call.client_kill_filter(_id=_NEVER),
        call.client_kill_filter(),
        call.client_pause(1),
        call.client_unpause(),
        call.client_unblock(_NEVER),
        call.client_unblock(_NEVER, error=True),
        call.hotkeys_get(),
        call.client_list(_type="none"),
    ],
)

# Not in pipelines: in a transaction a server saves when it finds the time.
SAVING = Group(
    "saving",
    _keys,
    [
        call.save().after(_nothing_saved_now),
        call.bgsave().after(_nothing_saved_now),
        call.bgsave(schedule=False).after(_nothing_saved_now),
        call.bgrewriteaof().after(_nothing_saved_now),
    ],
    in_pipelines=False,
)

COMMANDS = Group("the commands", _keys, [call.command().by(_sampled)])

REPLICATION = Group(
    "replication",
    _keys,
    [
        call.slaveof(),
        call.replicaof("NO", "ONE"),
        call.execute_command("FAILOVER", "ABORT"),
    ],
)
