"""Real Clusters and Sentinel sets on the loopback interface, formed through redis-py."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import redis
from mirakuru import TCPExecutor
from mirakuru.exceptions import ExecutorError
from port_for import get_port, is_available
from redis.backoff import NoBackoff
from redis.crc import REDIS_CLUSTER_HASH_SLOTS, key_slot
from redis.retry import Retry

from .servers import PORTS_OF_OTHER_WORKERS, Server, server_binary

SERVICE = "mymaster"

# Below the ephemeral range: no outgoing connection takes the port of a node while it is down.
_PORTS = (11_000, 22_000)
_BUS = 10_000

# What a node may answer, or not, while things change.
_NOT_YET = (redis.ConnectionError, redis.TimeoutError, redis.ResponseError)


@dataclass
class Node(Server):
    """A server process of a topology."""

    log: Path = field(kw_only=True)
    username: str | None = field(default=None, kw_only=True)
    password: str | None = field(default=None, kw_only=True, repr=False)
    client: redis.Redis = field(init=False, repr=False)
    """Plain redis-py, for questions: impatient, and reconnects once."""
    frozen: bool = field(default=False, init=False)

    def __post_init__(self) -> None:
        self.client = redis.Redis(
            port=self.port,
            username=self.username,
            password=self.password,
            decode_responses=True,
            socket_timeout=2,
            retry=Retry(NoBackoff(), 1),
        )

    @property
    def address(self) -> str:
        return f"{self.host}:{self.port}"

    @property
    def url(self) -> str:
        return f"redis://{_user_info(self)}{self.address}/0"

    @property
    def up(self) -> bool:
        """Neither killed nor frozen."""
        return not self.frozen and self.executor.running()

    def start(self) -> None:
        try:
            self.executor.start()
        except ExecutorError as error:
            raise AssertionError(f"{error}\n{log_tails([self])}") from error

    def kill(self) -> None:
        """SIGKILL, also when frozen; nothing is saved."""
        self.executor.kill()
        self.frozen = False

    def freeze(self) -> None:
        """SIGSTOP: its sockets stay open, and nobody answers."""
        self._signal(signal.SIGSTOP)
        self.frozen = True

    def thaw(self) -> None:
        self._signal(signal.SIGCONT)
        self.frozen = False

    def restart(self) -> None:
        """Start it again where it isn't running: on the same port, without its data.

        A primary that is back before anybody was promoted is an empty primary, which its
        replicas then copy.
        """
        if not self.executor.running():
            self.start()

    def log_tail(self, lines: int = 12) -> str:
        if not self.log.exists():
            return "(no log)"
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])

    def _signal(self, number: signal.Signals) -> None:
        process = self.executor.process
        assert process is not None, f"{self} isn't running"
        os.kill(process.pid, number)


@dataclass
class Topology:
    """What a Cluster and a Sentinel set have in common."""

    kind: str
    nodes: list[Node]
    """Those with data."""

    @property
    def processes(self) -> list[Node]:
        return self.nodes

    def is_healthy(self) -> bool:
        raise NotImplementedError

    def wait_until_healthy(self, seconds: float = 30) -> None:
        """Wait until all is as it was when it was formed, but for who is a primary."""
        self.wait_until(self.is_healthy, "healthy", seconds)

    def wait_until(self, done: Callable[[], object], what: str, seconds: float = 30) -> None:
        """Wait, and show the ends of the logs if it doesn't happen."""
        deadline = time.monotonic() + seconds
        error: Exception | None = None
        while True:
            try:
                if done():
                    return
                error = None
            except _NOT_YET as failure:
                error = failure
            if time.monotonic() > deadline:
                last = f" (last answer: {error!r})" if error else ""
                message = f"not {what} within {seconds} s{last}\n{log_tails(self.processes)}"
                raise AssertionError(message) from error
            time.sleep(0.02)

    def tidy(self) -> None:
        """Repair what a test has broken, and empty it."""
        for node in self.processes:
            if node.frozen:
                node.thaw()
            node.restart()
        self._repair()
        for node in self.primaries():
            node.client.flushall()
            assert node.client.wait(1, 1500) >= 1, f"no replica follows {node}"

    def primaries(self) -> list[Node]:
        raise NotImplementedError

    def _repair(self) -> None:
        self.wait_until_healthy()


@dataclass
class Cluster(Topology):
    """Three primaries and three replicas; who is what changes with each failover: ask."""

    @property
    def addresses(self) -> str:
        return ",".join(node.address for node in self.nodes)

    @property
    def url(self) -> str:
        return f"redis+cluster://{_user_info(self.nodes[0])}{self.addresses}"

    def primaries(self) -> list[Node]:
        """The nodes that say so of themselves; not those that are killed or frozen."""
        return [node for node in self._up() if "master" in _myself(node)["flags"]]

    def replicas(self, of: Node | None = None) -> list[Node]:
        """The nodes that say so of themselves, or those among them that follow a primary."""
        found = [node for node in self._up() if "slave" in _myself(node)["flags"]]
        if of is None:
            return found
        node_id = self.id_of(of)
        return [node for node in found if _myself(node)["master_id"] == node_id]

    def node_of(self, key: str | bytes) -> Node:
        """The primary that serves a key."""
        return self.owner_of(self.slot_of(key))

    def owner_of(self, slot: int) -> Node:
        """The primary that serves a slot: the one that was given it last, if two say so."""
        own = [(node, _myself(node)) for node in self._up()]
        owners = [
            (int(line["epoch"]), node)
            for node, line in own
            if "master" in line["flags"] and _has_slot(line, slot)
        ]
        assert owners, f"no node serves slot {slot}\n{log_tails(self.nodes)}"
        return max(owners, key=lambda owner: owner[0])[1]

    @staticmethod
    def slot_of(key: str | bytes) -> int:
        return key_slot(key.encode() if isinstance(key, str) else key)

    @staticmethod
    def id_of(node: Node) -> str:
        return str(node.client.execute_command("CLUSTER MYID"))

    def is_healthy(self) -> bool:
        return (
            all(node.up for node in self.nodes)
            and self._is_serving()
            and all(_has_joined(node, len(self.nodes)) for node in self.nodes)
            and len(self.primaries()) == 3
            and all(_replicates(node) for node in self.nodes)
            and all(_names_replicas(node) for node in self.nodes)
        )

    def wait_until_serving(self, seconds: float = 30) -> None:
        """Wait until the nodes that are up agree and each slot is served by one of them.

        That is before whoever was killed is back.
        """
        self.wait_until(self._is_serving, "serving all slots", seconds)

    def wait_for_new_primary(self, old: Node, seconds: float = 30) -> None:
        """Wait until all slots are served, and none of them by that node."""

        def taken_over() -> bool:
            views = [_view(node) for node in self._up()]
            gone = all(not _serves(view.get(old.address)) for view in views)
            return gone and self._is_serving()

        self.wait_until(taken_over, f"taken over from {old}", seconds)

    def migrate_slot(
        self, slot: int, source: Node, target: Node, *, keys_left: bool = False
    ) -> None:
        """Move a slot, and wait until every node knows.

        :param keys_left: leave its keys behind, so that they are lost, as when an operator errs
        """
        self.begin_migration(slot, source, target)
        self.finish_migration(slot, source, target, keys_left=keys_left)

    def begin_migration(self, slot: int, source: Node, target: Node) -> None:
        """From now on the source answers ASK for each key of the slot that it doesn't have.

        Keys that it has stay where they are; see `move_keys`.
        """
        target.client.execute_command("CLUSTER SETSLOT", slot, "IMPORTING", self.id_of(source))
        source.client.execute_command("CLUSTER SETSLOT", slot, "MIGRATING", self.id_of(target))

    def move_keys(self, slot: int, source: Node, target: Node, *keys: str | bytes) -> None:
        """Move keys of a slot that migrates: those given, or all."""
        batch: list[Any] = list(keys) or self._keys_in(slot, source)
        while batch:
            auth = ["AUTH2", target.username or "default", target.password]
            source.client.execute_command(
                "MIGRATE", target.host, target.port, "", 0, 5000,
                *(auth if target.password else []), "KEYS", *batch,
            )  # fmt: skip
            batch = [] if keys else self._keys_in(slot, source)

    def finish_migration(
        self, slot: int, source: Node, target: Node, *, keys_left: bool = False
    ) -> None:
        """Move the keys that are still at the source, hand over, and tell everybody."""
        if not keys_left:
            self.move_keys(slot, source, target)
        target_id = self.id_of(target)
        # A source that still has keys refuses to be told, and hears of it from the target.
        told = [target, *([] if keys_left else [source])]
        told += [node for node in self.primaries() if node not in (source, target)]
        for node in told:
            node.client.execute_command("CLUSTER SETSLOT", slot, "NODE", target_id)

        def known() -> bool:
            lines = [_view(node).get(target.address) for node in self._up()]
            return all(line is not None and _has_slot(line, slot) for line in lines)

        self.wait_until(known, f"known to everybody that slot {slot} moved")

    def cancel_migrations(self) -> None:
        """Forget half-done migrations."""
        for node in self.primaries():
            for migration in _myself(node)["migrations"]:
                node.client.execute_command("CLUSTER SETSLOT", migration["slot"], "STABLE")

    def _up(self) -> list[Node]:
        return [node for node in self.nodes if node.up]

    def _is_serving(self) -> bool:
        up = self._up()
        if not up:
            return False
        states = [node.client.execute_command("CLUSTER INFO") for node in up]
        if any(state["cluster_state"] != "ok" for state in states):
            return False
        layouts = [_layout(node) for node in up]
        addresses = {node.address for node in up}
        served = sum(end - start + 1 for _, start, end in layouts[0])
        return (
            all(layout == layouts[0] for layout in layouts)
            and served == REDIS_CLUSTER_HASH_SLOTS
            and {address for address, _, _ in layouts[0]} <= addresses
        )

    def _keys_in(self, slot: int, node: Node) -> list[Any]:
        # As bytes: MIGRATE is to get the names as they are.
        with redis.Redis(port=node.port, username=node.username, password=node.password) as raw:
            return list(raw.execute_command("CLUSTER GETKEYSINSLOT", slot, 100))

    def _repair(self) -> None:
        self.wait_until_healthy()
        self.cancel_migrations()


@dataclass
class SentinelSet(Topology):
    """A primary, its replica, and three Sentinels that watch them."""

    sentinels: list[Node]
    service: str = SERVICE

    @property
    def processes(self) -> list[Node]:
        return [*self.nodes, *self.sentinels]

    @property
    def addresses(self) -> str:
        return ",".join(sentinel.address for sentinel in self.sentinels)

    @property
    def url(self) -> str:
        """With the data nodes' user and password; the Sentinels' own are not in it."""
        return f"redis+sentinel://{_user_info(self.nodes[0])}{self.addresses}/{self.service}/0"

    def primary(self) -> Node:
        """What the first Sentinel that is up says; after a failover it may be late."""
        port = _monitored_port(self._sentinels_up()[0], self.service)
        (node,) = [node for node in self.nodes if node.port == port]
        return node

    def primaries(self) -> list[Node]:
        return [self.primary()]

    def replica(self) -> Node:
        """The other node, in whichever state it is."""
        primary = self.primary()
        (node,) = [node for node in self.nodes if node is not primary]
        return node

    def kill_primary(self) -> Node:
        """SIGKILL the primary and return it; `wait_for_new_primary` with its port."""
        primary = self.primary()
        primary.kill()
        return primary

    def failover(self) -> Node:
        """Ask a Sentinel to promote the replica, and return who is the primary until then.

        It is the old one's turn to become a replica only some 10 s later.
        """
        primary = self.primary()
        self._sentinels_up()[0].client.sentinel_failover(self.service)
        return primary

    def wait_for_new_primary(self, old_port: int, seconds: float = 30) -> Node:
        """Wait until all Sentinels name another primary, and it agrees."""

        def promoted() -> bool:
            ports = self._named()
            return (
                ports != {old_port} and len(ports) == 1 and self._role(self.primary()) == "master"
            )

        self.wait_until(promoted, f"failed over from {old_port}", seconds)
        return self.primary()

    def is_healthy(self) -> bool:
        if not all(node.up for node in self.processes) or not self._is_settled():
            return False
        primary, replica = self.primary(), self.replica()
        followed = replica.client.info("replication")
        return (
            self._role(primary) == "master"
            and _replicates(primary)
            and self._role(replica) == "slave"
            and followed["master_port"] == primary.port
            and _replicates(replica)
            and all(self._is_watched(sentinel, replica) for sentinel in self.sentinels)
        )

    def _sentinels_up(self) -> list[Node]:
        return [sentinel for sentinel in self.sentinels if sentinel.up]

    def _named(self) -> set[int]:
        """The ports of whom the Sentinels name."""
        return {_monitored_port(sentinel, self.service) for sentinel in self._sentinels_up()}

    def _is_settled(self) -> bool:
        """All Sentinels know each other, agree, and have nothing under way."""
        states = [s.client.sentinel_master(self.service) for s in self._sentinels_up()]
        others = len(self.sentinels) - 1
        return len(self._named()) == 1 and all(
            state["flags"] == "master" and state["num-other-sentinels"] == others
            for state in states
        )

    def _is_watched(self, sentinel: Node, replica: Node) -> bool:
        found = sentinel.client.sentinel_slaves(self.service)
        return [(state["port"], state["flags"]) for state in found] == [(replica.port, "slave")]

    @staticmethod
    def _role(node: Node) -> str:
        return str(node.client.info("replication")["role"])

    def _repair(self) -> None:
        # Sentinels take 10 s to make a replica of a primary that is back: do it for them.
        def healthy() -> bool:
            if self._is_settled():
                primary, other = self.primary(), self.replica()
                if self._role(primary) == self._role(other) == "master":
                    other.client.replicaof(primary.host, primary.port)
            return self.is_healthy()

        self.wait_until(healthy, "repaired")


def log_tails(nodes: list[Node]) -> str:
    """The last lines of the logs."""

    def title(node: Node) -> str:
        return f"--- {node.kind} {node.port}{'' if node.up else ' (not up)'}: {node.log}"

    return "\n".join(f"{title(node)}\n{node.log_tail()}" for node in nodes)


@contextmanager
def running_cluster(
    kind: str,
    directory: Path,
    *options: str,
    username: str | None = None,
    password: str | None = None,
    node_timeout: int = 2000,
) -> Iterator[Cluster]:
    """Start six nodes, form a cluster of three primaries with a replica each, stop it at the end.

    :param options: of each node, as on the command line
    :param node_timeout: in milliseconds: how soon a node that doesn't answer is given up
    """
    with ExitStack() as stack:
        nodes: list[Node] = []
        for _ in range(6):
            port = _port_with_bus({node.port for node in nodes})
            nodes.append(
                _started(
                    stack, kind, directory, port,
                    "--cluster-enabled", "yes", "--cluster-config-file", "nodes.conf",
                    "--cluster-node-timeout", str(node_timeout), *options,
                    username=username, password=password,
                )
            )  # fmt: skip
        cluster = Cluster(kind, nodes)
        _form(cluster)
        yield cluster


@contextmanager
def running_sentinels(
    kind: str,
    directory: Path,
    *options: str,
    username: str | None = None,
    password: str | None = None,
    sentinel_username: str | None = None,
    sentinel_password: str | None = None,
    min_replicas_to_write: int = 0,
    down_after: int = 500,
    failover_timeout: int = 3000,
) -> Iterator[SentinelSet]:
    """Start a primary, its replica and three Sentinels, and stop them at the end.

    :param options: of both data nodes, as on the command line
    :param username: of both data nodes, with ``password``: nobody else can log in
    :param sentinel_username: of the Sentinels, likewise
    :param down_after: in milliseconds, as ``failover_timeout``
    """
    data = ["--min-replicas-to-write", str(min_replicas_to_write), *options]
    with ExitStack() as stack:
        nodes: list[Node] = []
        for _ in range(2):
            port = _free_port({node.port for node in nodes})
            following = ["--replicaof", f"127.0.0.1 {nodes[0].port}"] if nodes else []
            nodes.append(
                _started(
                    stack, kind, directory, port, *data, *following,
                    username=username, password=password,
                )
            )  # fmt: skip
        both = Topology(kind, nodes)
        # A Sentinel that finds no replica at first looks again only 10 s later.
        both.wait_until(lambda: all(map(_replicates, nodes)), "replicating")

        sentinels: list[Node] = []
        for _ in range(3):
            port = _free_port({node.port for node in [*nodes, *sentinels]})
            lines = [
                f"sentinel monitor {SERVICE} 127.0.0.1 {nodes[0].port} 2",
                f"sentinel down-after-milliseconds {SERVICE} {down_after}",
                f"sentinel failover-timeout {SERVICE} {failover_timeout}",
                f"sentinel parallel-syncs {SERVICE} 1",
            ]
            if password:
                lines.append(f"sentinel auth-pass {SERVICE} {password}")
            if username:
                lines.append(f"sentinel auth-user {SERVICE} {username}")
            if sentinel_password:
                lines.append(f"sentinel sentinel-pass {sentinel_password}")
            if sentinel_username:
                lines.append(f"sentinel sentinel-user {sentinel_username}")
            sentinels.append(
                _started(
                    stack, kind, directory, port,
                    username=sentinel_username, password=sentinel_password, sentinel=lines,
                )
            )  # fmt: skip
        found = SentinelSet(kind, nodes, sentinels)
        found.wait_until_healthy()
        yield found


def _started(
    stack: ExitStack,
    kind: str,
    directory: Path,
    port: int,
    *options: str,
    username: str | None,
    password: str | None,
    sentinel: list[str] | None = None,
) -> Node:
    """Start a node in a directory of its own, to be killed when the stack is left."""
    own = directory / str(port)
    own.mkdir(parents=True)
    log = own / "server.log"
    users = _users(username, password)
    common = {"port": str(port), "bind": "127.0.0.1", "dir": str(own), "logfile": str(log)}
    if sentinel is not None:
        lines = [f"{name} {value}" for name, value in common.items()]
        lines += [f"user {' '.join(user)}" for user in users]
        config = own / "sentinel.conf"
        config.write_text("\n".join([*lines, *sentinel, ""]))
        command = [server_binary(kind), str(config), "--sentinel"]
    else:
        command = [server_binary(kind), "--save", "", "--repl-diskless-sync-delay", "0"]
        for name, value in common.items():
            command += [f"--{name}", value]
        for user in users:
            command += ["--user", *user]
        if password:
            command += ["--masterauth", password]
        if username:
            command += ["--masteruser", username]
        command += options
    executor = TCPExecutor(command, "127.0.0.1", port, timeout=10, sleep=0.005)
    node = Node(kind, port, executor, log=log, username=username, password=password)
    stack.callback(node.client.close)
    stack.callback(node.kill)
    node.start()
    return node


def _users(username: str | None, password: str | None) -> list[list[str]]:
    """ACL rules, a word each."""
    if password is None:
        return []
    rules = [[username or "default", "on", f">{password}", "~*", "&*", "+@all"]]
    return [*rules, ["default", "off"]] if username else rules


def _user_info(node: Node) -> str:
    return f"{node.username or ''}:{node.password}@" if node.password else ""


def _free_port(taken: set[int]) -> int:
    port = get_port([_PORTS], taken | PORTS_OF_OTHER_WORKERS)
    assert isinstance(port, int)
    return port


def _port_with_bus(taken: set[int]) -> int:
    """A free port, 10,000 above which is another one, for the nodes among themselves."""
    for _ in range(100):
        port = _free_port(taken)
        if is_available(port + _BUS):
            return port
    raise AssertionError("no two free ports that are 10,000 apart")


def _form(cluster: Cluster) -> None:
    nodes = cluster.nodes
    primaries, replicas = nodes[:3], nodes[3:]
    bounds = [REDIS_CLUSTER_HASH_SLOTS * number // 3 for number in range(4)]
    for number, node in enumerate(primaries):
        node.client.execute_command("CLUSTER ADDSLOTSRANGE", bounds[number], bounds[number + 1] - 1)
        node.client.execute_command("CLUSTER SET-CONFIG-EPOCH", number + 1)
    for node in nodes[1:]:
        nodes[0].client.execute_command("CLUSTER MEET", node.host, node.port)
    cluster.wait_until(lambda: all(_has_joined(node, len(nodes)) for node in nodes), "joined")
    for primary, replica in zip(primaries, replicas, strict=True):
        replica.client.execute_command("CLUSTER REPLICATE", cluster.id_of(primary))
    cluster.wait_until_healthy()


def _view(node: Node) -> dict[str, dict[str, Any]]:
    """Everybody, by address, as a node sees them."""
    view: dict[str, dict[str, Any]] = node.client.execute_command("CLUSTER NODES")
    return view


def _myself(node: Node) -> dict[str, Any]:
    (line,) = [line for line in _view(node).values() if "myself" in line["flags"]]
    return line


def _ranges(line: dict[str, Any]) -> list[tuple[int, int]]:
    return [(int(slots[0]), int(slots[-1])) for slots in line["slots"]]


def _has_slot(line: dict[str, Any], slot: int) -> bool:
    return any(start <= slot <= end for start, end in _ranges(line))


def _serves(line: dict[str, Any] | None) -> bool:
    return line is not None and bool(line["slots"])


def _layout(node: Node) -> list[tuple[str, int, int]]:
    """Who serves which slots, as a node sees it."""
    view = _view(node)
    return sorted((address, *slots) for address, line in view.items() for slots in _ranges(line))


def _has_joined(node: Node, expected: int) -> bool:
    """It sees all nodes, and nothing is wrong with any of them."""
    view = _view(node)
    wrong = {"fail", "fail?", "handshake", "noaddr"}
    return len(view) == expected and not any(
        wrong & set(line["flags"].split(",")) for line in view.values()
    )


def _replicates(node: Node) -> bool:
    """A primary has one replica, which is online; a replica is up to date."""
    info = node.client.info("replication")
    if info["role"] == "master":
        return info["connected_slaves"] == 1 and info["slave0"]["state"] == "online"
    return info["master_link_status"] == "up" and not info["master_sync_in_progress"]


def _names_replicas(node: Node) -> bool:
    """It tells clients of a replica for each slot: not before it has heard of its offset."""
    slots = node.client.execute_command("CLUSTER SLOTS")
    return all(len(shard) > 3 for shard in slots)  # start, end, primary, replicas


def _monitored_port(sentinel: Node, service: str) -> int:
    address = sentinel.client.sentinel_get_master_addr_by_name(service, return_responses=True)
    return int(address[1])
