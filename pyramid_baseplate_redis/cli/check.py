"""``predis check``: whether the servers of each client answer, and its settings."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
from dataclasses import asdict, dataclass
from datetime import timedelta
from typing import Any

from rich.console import Group
from rich.table import Table
from rich.text import Text

from ..exceptions import SERVER_ERRORS
from ..health.probes import ask_server
from ..settings.client import SETTINGS
from ..settings.effective import EffectiveSetting, effective_settings
from .application import Application, CommandError
from .output import Output, cell, table
from .servers import Server, Servers, at_once, explained

HELP = "look at each client: whether its servers answer, and its settings"


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
    servers: list[ServerReport] = dataclasses.field(default_factory=list)
    error: str | None = None

    @property
    def ok(self) -> bool:
        """Return whether all its servers answered."""
        return self.error is None and all(server.error is None for server in self.servers)

    def as_json(self) -> dict[str, Any]:
        """Return the report for programs, with numbers and booleans as such."""
        settings = [{**setting._asdict(), "value": _typed(setting)} for setting in self.settings]
        return {"ok": self.ok, **asdict(self), "settings": settings}

    def verdict(self) -> Text:
        """Return one line: the client's state and the reason."""
        if self.error is not None:
            return _verdict(self.name, self.error)
        for server in self.servers:
            if server.error is not None:
                return _verdict(self.name, server.error, server.address)
        count = len(self.servers)
        where = self.servers[0].address if count == 1 else f"{count} servers"
        ping = max(server.ping_seconds or 0 for server in self.servers) * 1000
        slowest = "" if count == 1 else "slowest "
        return _verdict(self.name, None, f"{self.kind}, {where}, {slowest}ping {ping:.2f} ms")


@dataclass
class QueueReport:
    """A declared message queue."""

    name: str
    kind: str  #: ``durable`` or ``list``
    client: str
    length: int | None = None  #: messages on the queue, received or not
    dead: int | None = None  #: dead letters of a durable queue
    error: str | None = None

    @property
    def ok(self) -> bool:
        """Return whether its server answered."""
        return self.error is None

    def verdict(self) -> Text:
        """Return one line: the queue's state and the reason."""
        if self.error is not None:
            return _verdict(self.name, self.error)
        kind = "durable queue" if self.kind == "durable" else "message queue"
        text = f"{kind} on {self.client}, {_counted(self.length, 'message')}"
        if self.dead:
            text += f", {_counted(self.dead, 'dead letter')}"
        return _verdict(self.name, None, text)


def _verdict(name: str, error: str | None, detail: str = "") -> Text:
    state = Text("ok", "bold green") if error is None else Text("failed", "bold red")
    reason = ": ".join(part for part in (detail, error) if part)
    return Text.assemble((name, "bold"), ": ", state, ": ", cell(reason))


def _counted(count: int | None, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"


def _typed(setting: EffectiveSetting) -> Any:
    """Return a setting's value as a type of JSON; time spans in seconds."""
    field = SETTINGS.get(setting.key)
    value: Any = setting.value
    if field is not None:
        with contextlib.suppress(ValueError):  # hidden, or a keyword argument of another form
            value = field.metadata["parse"](setting.value)
    if isinstance(value, timedelta):
        return value.total_seconds()
    return value if isinstance(value, (bool, int, float)) else setting.value


def add_arguments(parser: argparse.ArgumentParser) -> list[argparse.ArgumentParser]:
    """Add the command's arguments; return the parsers that get the common ones."""
    parser.add_argument(
        "--all", action="store_true", help="show the settings that have their default values, too"
    )
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
    clients = at_once(lambda item: check(*item), list(factories.items()))
    failed = {client.name for client in clients if not client.ok}
    queues = at_once(
        lambda item: check_queue(application, *item, failed),
        list(application.queue_factories().items()),
    )
    reports: list[ClientReport | QueueReport] = [*clients, *queues]
    ok = all(report.ok for report in reports)
    data = {
        "ok": ok,
        "clients": [client.as_json() for client in clients],
        "queues": [{"ok": queue.ok, **asdict(queue)} for queue in queues],
    }
    verdicts = [report.verdict() for report in reports]
    details = [view(client, arguments.all) for client in clients]
    output.write(Group(*details, *verdicts), data)
    return 0 if ok else 1


def check(name: str, factory: Any) -> ClientReport:
    """Look at one client; nothing is raised when a server fails."""
    servers = Servers(factory)
    settings = getattr(servers.pool, "client_settings", None)
    effective = effective_settings(settings) if settings is not None else []
    report = ClientReport(name, servers.kind, effective, _pool(servers.pool))
    try:
        found = servers.find()
    except SERVER_ERRORS as error:
        report.error = explained(error)
    else:
        report.servers = at_once(lambda server: _ask(name, server), found)
    return report


def check_queue(application: Application, name: str, factory: Any, failed: set[str]) -> QueueReport:
    """Look at one message queue; nothing is raised when its server fails.

    :param failed: the clients whose servers do not answer; their queues are not asked.
    """
    durable = factory.settings.durable
    report = QueueReport(name, "durable" if durable else "list", factory.client)
    if factory.client in failed:
        report.error = f"not asked, because {factory.client} failed"
        return report
    try:
        queue = application.queue(name)
        if durable:
            stats = queue.stats()
            report.length, report.dead = stats.length, stats.dead
        else:
            report.length = queue.client.llen(queue.queue)
    except SERVER_ERRORS as error:
        report.error = explained(error)
    return report


def _pool(pool: Any) -> dict[str, Any]:
    """Describe the pool. Its state is left out: this process has a pool of its own."""
    return {"class": type(pool).__name__, "max_connections": pool.max_connections}


def _ask(name: str, server: Server) -> ServerReport:
    report = ServerReport(server.address)
    try:
        answer = ask_server(name, server.client.connection_pool)
    except SERVER_ERRORS as error:
        report.error = explained(error)
        return report
    report.ping_seconds = answer.latency
    report.role = {"master": "primary", None: "unknown"}.get(answer.role, answer.role)
    introduced = (answer.server, answer.server_version)
    report.server = " ".join(text for text in introduced if text) or "unknown"
    return report


def view(report: ClientReport, with_defaults: bool = False) -> Group:
    """Return a client's servers and settings for people.

    :param with_defaults: whether to show the settings that have their default values.
    """
    each = "process and node" if report.kind == "cluster" else "process"
    most = report.pool["max_connections"]
    parts: list[Any] = [Text.assemble((report.name, "bold"), f": {report.kind}")]
    if report.servers:
        parts.append(_servers_view(report))
    parts.append(Text(f"pool: {report.pool['class']}, at most {most} connections for each {each}"))
    shown = [each for each in report.settings if with_defaults or each.origin != "default"]
    if shown:
        parts.append(_settings_view(report.name, shown))
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


def _settings_view(name: str, settings: list[EffectiveSetting]) -> Table:
    made = table("setting", "value", "from")
    for setting in settings:
        style = "dim" if setting.origin == "default" else ""
        key = f"{name}.{setting.key}"
        made.add_row(cell(key, style), cell(setting.value, style), cell(setting.origin, style))
    return made
