"""Servers on the ports that a suite expects: most of them can be told of no other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from mirakuru import TCPExecutor

_OPEN_TO_TESTS = ("--bind", "127.0.0.1", "--save", "", "--enable-debug-command", "local")


@dataclass(frozen=True)
class SuiteServer:
    """A server of a suite.

    :param port: where it listens.
    :param options: of its command line.
    """

    port: int = 6379
    options: Sequence[str] = ()

    def command(self, binary: str, directory: Path) -> list[str]:
        return [
            binary, "--port", str(self.port), "--dir", str(directory), *_OPEN_TO_TESTS,
            *self.options,
        ]  # fmt: skip


@dataclass(frozen=True)
class SuiteSentinel(SuiteServer):
    """A Sentinel that watches a server of the suite.

    :param services: the names of what it watches; some suites use several for the same server.
    :param watched: the port of the server.
    """

    port: int = 26379
    services: Sequence[str] = ("mymaster",)
    watched: int = 6379

    def command(self, binary: str, directory: Path) -> list[str]:
        file = directory / f"sentinel-{self.port}.conf"
        watched = [f"sentinel monitor {name} 127.0.0.1 {self.watched} 1" for name in self.services]
        lines = [f"port {self.port}", "bind 127.0.0.1", f"dir {directory}", *watched]
        file.write_text("\n".join(lines) + "\n")
        return [binary, str(file), "--sentinel"]


@contextmanager
def running_servers(servers: Sequence[SuiteServer], binary: str, directory: Path) -> Iterator[None]:
    """Start servers without data, and stop them at the end.

    :param binary: the server's program.
    :param directory: for their files.
    :raises mirakuru.exceptions.AlreadyRunning: if another program has one of the ports.
    """
    with ExitStack() as stack:
        for server in servers:
            command = server.command(binary, directory)
            stack.enter_context(TCPExecutor(command, "127.0.0.1", server.port, timeout=10))
        yield
