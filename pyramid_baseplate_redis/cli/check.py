"""``predis check``: each client's settings, and whether its servers answer."""

from __future__ import annotations

import argparse
import time
from dataclasses import asdict, dataclass, field
from typing import Any

import redis
from redis.utils import str_if_bytes
from rich.console import Group
from rich.table import Table
from rich.text import Text

from ..exceptions import SERVER_ERRORS
from ..settings.effective import EffectiveSetting, effective_settings
from .application import Application, CommandError
from .output import Output, cell, failure, table
from .servers import Server, Servers, at_once, explained

HELP = "look at each client: its settings, and whether its servers answer"


@dataclass
class ServerReport:
    """A server's answer."""

    address: str
    role: str | None = None
    server: str | None = None
    ping_seconds: float | None = None
    error: str | None = None


@dataclass
class ClientReport:
    """A client's settings and servers."""

    name: str
    kind: str
    settings: list[EffectiveSetting]
    pool: dict[str, Any]
    servers: list[ServerReport] = field(default_factory=list)
    error: str | None = None

    @property
    def ok(self) -> bool:
        """Return whether all its servers answered."""
        return self.error is None and all(server.error is None for server in self.servers)

    def as_json(self) -> dict[str, Any]:
        """The report for machines."""
        settings = [setting._asdict() for setting in self.settings]
        return {"ok": self.ok, **asdict(self), "settings": settings}


def add_arguments(parser: argparse.ArgumentParser) -> list[argparse.ArgumentParser]:
    """The command has none of its own; returns the parser that is to have the common ones."""
    return [parser]


def run(application: Application, arguments: argparse.Namespace, output: Output) -> int:
    """Ask all servers of all clients at the same time: a frozen one costs its timeouts, once."""
    factories = application.factories()
    if not factories:
        raise CommandError(
            "the application has no Redis client: it doesn't include pyramid_baseplate_redis, or "
            "there is no setting such as foo.url = redis://localhost:6379/0",
            status=2,
        )
    reports = at_once(lambda item: check(*item), list(factories.items()))
    ok = all(report.ok for report in reports)
    data = {"ok": ok, "clients": [report.as_json() for report in reports]}
    output.write(Group(*[view(report) for report in reports]), data)
    return 0 if ok else 1


def check(name: str, factory: Any) -> ClientReport:
    """Look at one client; nothing is raised when a server fails."""
    servers = Servers(factory)
    settings = getattr(servers.pool, "client_settings", None)
    effective = effective_settings(settings) if settings is not None else []
    report = ClientReport(name, servers.kind, effective, _pool(servers.pool))
    try:
        report.servers = at_once(_ask, servers.find())
    except SERVER_ERRORS as error:
        report.error = explained(error)
    return report


def _pool(pool: Any) -> dict[str, Any]:
    """Describe the pool. Its state is left out: this process has a pool of its own."""
    return {"class": type(pool).__name__, "max_connections": pool.max_connections}


def _ask(server: Server) -> ServerReport:
    report = ServerReport(server.address)
    try:
        server.client.execute_command("PING")  # connects
        started = time.perf_counter()
        server.client.execute_command("PING")
        report.ping_seconds = time.perf_counter() - started
        report.role, report.server = _introduced(server)
    except SERVER_ERRORS as error:
        report.error = explained(error)
    return report


def _introduced(server: Server) -> tuple[str, str]:
    """The server's role, and its name and version: in the reply to HELLO, which all may send."""
    try:
        reply = server.client.execute_command("HELLO")
    except redis.ResponseError:  # of a proxy, say
        return "unknown", "unknown"
    if not isinstance(reply, dict):
        reply = dict(zip(reply[::2], reply[1::2], strict=False))
    found = {str_if_bytes(key): value for key, value in reply.items()}
    role, name, version = (str_if_bytes(found[key]) for key in ("role", "server", "version"))
    return {"master": "primary"}.get(role, role), f"{name} {version}"


def view(report: ClientReport) -> Group:
    """The report for people."""
    state = Text("ok", "bold green") if report.ok else Text("failed", "bold red")
    parts: list[Any] = [Text.assemble((report.name, "bold"), f": {report.kind}, ", state)]
    if report.error is not None:
        parts.append(cell(report.error, "red"))
    if report.servers:
        parts.append(_servers_view(report))
    for server in report.servers:
        if server.error is not None:
            parts.append(failure(server.address, server.error))
    each = "process and node" if report.kind == "cluster" else "process"
    most = report.pool["max_connections"]
    parts.append(Text(f"pool: {report.pool['class']}, at most {most} connections for each {each}"))
    if report.settings:
        parts.append(_settings_view(report))
    return Group(*parts, Text())


def _servers_view(report: ClientReport) -> Table:
    made = table("server", "role", "version", "ping", right=("ping",))
    for server in report.servers:
        if server.error is not None:
            made.add_row(cell(server.address), Text("failed", "red"))
            continue
        ping = f"{(server.ping_seconds or 0) * 1000:.2f} ms"
        made.add_row(cell(server.address), cell(server.role or ""), cell(server.server or ""), ping)
    return made


def _settings_view(report: ClientReport) -> Table:
    made = table("setting", "value", "from")
    for setting in report.settings:
        style = "dim" if setting.origin == "default" else ""
        key = f"{report.name}.{setting.key}"
        made.add_row(cell(key, style), cell(setting.value, style), cell(setting.origin, style))
    return made
