"""Commands about a Cluster, and those that a Cluster's client sends to several nodes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from redis.crc import key_slot

from ..entries import Entry, Group, call, nothing
from ..outcomes import in_order, kinds, kinds_of_items

_SLOT = key_slot(b"k")
_FAR = "0" * 40  # no node has this id


def _keys(plain: Any) -> None:
    plain.mset({"{k}a": "1", "{k}b": "2"})


def _no_other_key(plain: Any) -> None:
    plain.delete("{j}a")


def _at_node(name: str, run: Callable[[Any, Any], Any]) -> Entry:
    """Call a method that takes the node that has the keys."""
    return Entry(name, lambda client: run(client, client.get_node_from_key("{k}a")))


def _scanned(result: Any) -> Any:
    return type(result[0]), in_order(result[1])


def _lasting(info: Any) -> Any:
    """Leave out the counters, which appear with the first message of their kind."""
    return {key: kinds(item) for key, item in info.items() if not key.startswith("cluster_stats_")}


CLUSTERS = Group(
    "the Cluster",
    _keys,
    [
        call.cluster_info().by(_lasting),
        call.cluster_nodes().by(lambda nodes: kinds_of_items(nodes.values())),
        call.cluster_slots(),
        call.cluster_shards().by(kinds_of_items),
        call.cluster_myshardid(),
        call.cluster_keyslot("{k}a"),
        call.cluster_countkeysinslot(_SLOT),
        call.cluster_get_keys_in_slot(_SLOT, 5).by(in_order),
        call.cluster_get_keys_in_slot(_SLOT - 1, 5),
        call.cluster_save_config(),
        call.cluster_replicas(_FAR),
        call.cluster_count_failure_report(_FAR),
        _at_node("cluster_myid(node)", lambda client, node: client.cluster_myid(node)),
        _at_node("cluster_links(node)", lambda client, node: client.cluster_links(node)).by(
            kinds_of_items
        ),
        _at_node(
            "cluster_replicas(id)",
            lambda client, node: client.cluster_replicas(client.cluster_myid(node)),
        ).by(lambda nodes: kinds_of_items(nodes.values())),
        _at_node(
            "cluster_addslots(node, slot)",
            lambda client, node: client.cluster_addslots(node, _SLOT),
        ),
        _at_node("cluster_failover(node)", lambda client, node: client.cluster_failover(node)),
        _at_node(
            "execute_command('CLUSTER SLAVES', id)",
            lambda client, node: client.execute_command(
                "CLUSTER SLAVES", client.cluster_myid(node), target_nodes=node
            ),
        ).by(lambda nodes: kinds_of_items(nodes.values())),
        call.cluster_meet("127.0.0.1", "x"),
        call.cluster_set_config_epoch(1),
    ],
)

NODES = Group(
    "several nodes",
    _keys,
    [
        call.ping(target_nodes="all"),
        call.ping(target_nodes="primaries"),
        call.dbsize(target_nodes="all"),
        call.info("server", target_nodes="primaries").by(
            lambda result: kinds_of_items(result.values())
        ),
        call.keys("{k}*", target_nodes="primaries").by(in_order),
        call.time(target_nodes="all").by(kinds),
        call.config_set("maxmemory-samples", 5, target_nodes="all"),
        call.config_get("maxmemory", target_nodes="all"),
        call.pubsub_channels(target_nodes="all"),
        call.pubsub_numpat(target_nodes="all"),
        call.pubsub_numsub("{k}c", target_nodes="all"),
        call.pubsub_shardchannels(target_nodes="all"),
        call.pubsub_shardnumsub("{k}c", target_nodes="all"),
        call.client_setname("x", target_nodes="all"),
        call.client_list(target_nodes="primaries").by(
            lambda result: kinds_of_items(result.values())
        ),
        call.client_unblock(9_999_999, target_nodes="all"),
        call.client_pause(1, target_nodes="all"),
        call.client_unpause(target_nodes="all"),
        call.slowlog_reset(target_nodes="all"),
        call.wait(0, 10, target_nodes="primaries"),
        call.memory_purge(target_nodes="all"),
        call.config_resetstat(target_nodes="all"),
        call.scan(target_nodes="primaries").by(_scanned),
        call.script_load("return 1", target_nodes="primaries"),
        call.script_exists("a" * 40, target_nodes="primaries"),
        call.script_flush(target_nodes="primaries"),
        call.flushall(target_nodes="primaries"),
        call.acl_whoami(target_nodes="all"),
        call.acl_cat("geo", target_nodes="primaries").by(kinds),
        call.cluster_info(target_nodes="all").by(
            lambda result: kinds_of_items(map(_lasting, result.values()))
        ),
        call.lastsave(target_nodes="all").by(kinds),
        call.mget_nonatomic("{k}a", "{j}a", "{k}b"),
        call.mset_nonatomic({"{k}a": 1, "{j}a": 2}),
        call.mget("{k}a", "{k}b"),
        call.delete("{k}a", "{j}a"),
        call.exists("{k}a", "{j}a"),
        call.unlink("{k}a", "{j}a"),
        call.touch("{k}a", "{j}a"),
        # In a transaction it crashes a Valkey 9.1 that has replicas.
        call.cluster_setslot_stable(_SLOT),
        _at_node(
            "cluster_setslot(node, id, slot)",
            lambda client, node: client.cluster_setslot(node, _FAR, _SLOT, "NODE"),
        ),
    ],
    _no_other_key,
    in_pipelines=False,
)


def _reset(plain: Any) -> None:
    plain.execute_command("CLUSTER RESET", "HARD")


_met: list[str] = []


def _meet(plain: Any) -> None:
    plain.cluster("MEET", "127.0.0.1", 1)
    (name,) = [
        line["node_id"]
        for address, line in plain.cluster("NODES").items()
        if address == "127.0.0.1:1"
    ]
    _met[:] = [name]


def _with_slots(plain: Any) -> None:
    plain.execute_command("CLUSTER ADDSLOTSRANGE", 1, 3)


LONE_NODE = Group(
    "a node without a Cluster",
    nothing,
    [
        call.cluster("ADDSLOTS", 1, 2),
        call.cluster("ADDSLOTSRANGE", 1, 2),
        call.cluster("ADDSLOTS", 1).after(_with_slots),
        call.cluster("DELSLOTS", 1, 2).after(_with_slots),
        call.cluster("DELSLOTSRANGE", 1, 2).after(_with_slots),
        call.cluster("DELSLOTS", 1),
        call.cluster("SET-CONFIG-EPOCH", 5),
        call.cluster("RESET"),
        call.cluster("RESET", "HARD"),
        call.cluster("FLUSHSLOTS"),
        call.cluster("INFO").by(_lasting),
        call.cluster("NODES").by(lambda nodes: kinds_of_items(nodes.values())),
        call.cluster("MEET", "127.0.0.1", 1),
        call.cluster("FORGET", _FAR),
        Entry("cluster('FORGET', id)", lambda client: client.cluster("FORGET", _met[0])).after(
            _meet
        ),
        call.execute_command("ASKING"),
        call.cluster("REPLICATE", _FAR),
        call.cluster("FAILOVER"),
        call.cluster("SAVECONFIG"),
        call.cluster("SETSLOT", 1, "STABLE"),
        call.cluster("GETKEYSINSLOT", 1, 5),
        call.cluster("LINKS"),
        call.cluster("SLOTS"),
        call.cluster("SHARDS").by(kinds),
        call.cluster("MYID").by(kinds),
        call.cluster("REPLICAS", _FAR),
        call.cluster("SLAVES", _FAR),
    ],
    _reset,
)
