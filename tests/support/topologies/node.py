"""The server processes of a topology: their start, their ports and their users."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import redis
from mirakuru import TCPExecutor
from mirakuru.exceptions import ExecutorError
from port_for import get_port, is_available
from redis.backoff import NoBackoff
from redis.retry import Retry

from ..servers import PORTS_OF_OTHER_WORKERS, Server, server_binary

# Below the ephemeral range: no outgoing connection takes the port of a node while it is down.
_PORTS = (11_000, 22_000)
_BUS = 10_000


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
        return f"redis://{user_info(self)}{self.address}/0"

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


def log_tails(nodes: list[Node]) -> str:
    """The last lines of the logs."""

    def title(node: Node) -> str:
        return f"--- {node.kind} {node.port}{'' if node.up else ' (not up)'}: {node.log}"

    return "\n".join(f"{title(node)}\n{node.log_tail()}" for node in nodes)


def started_node(
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


def user_info(node: Node) -> str:
    return f"{node.username or ''}:{node.password}@" if node.password else ""


def free_node_port(taken: set[int]) -> int:
    port = get_port([_PORTS], taken | PORTS_OF_OTHER_WORKERS)
    assert isinstance(port, int)
    return port


def free_port_with_bus(taken: set[int]) -> int:
    """A free port, 10,000 above which is another one, for the nodes among themselves."""
    for _ in range(100):
        port = free_node_port(taken)
        if is_available(port + _BUS):
            return port
    raise AssertionError("no two free ports that are 10,000 apart")


@contextmanager
def frozen(nodes: list[Node]) -> Iterator[None]:
    """Freeze nodes inside of the block."""
    for node in nodes:
        node.freeze()
    try:
        yield
    finally:
        for node in nodes:
            node.thaw()
