"""The display of ``predis top``: a refresh as tables for people and as JSON for programs."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

from rich.console import Group
from rich.table import Table
from rich.text import Text

from .output import cell, failure, table
from .top_sampling import PERCENTILES, CommandRate, Refresh, ServerState

_LEAST_COMMANDS = 3
_LINES_BESIDE = 16  # of the view without servers and commands


def view(refresh: Refresh, height: int | None = None) -> Group:
    """A refresh for people.

    :param height: the lines of the terminal; commands that don't fit are counted in a last line.
    """
    parts: list[Any] = [_headline(refresh)]
    if refresh.error is not None:
        parts.append(cell(refresh.error, "red"))
    if refresh.servers:
        parts.append(_servers_view(refresh))
    errors = [state for state in refresh.servers if state.error is not None]
    parts += [failure(state.address, state.error or "") for state in errors]
    commands = refresh.commands
    room = len(commands)
    if height is not None:
        taken = _LINES_BESIDE + len(refresh.servers) + len(errors)
        room = max(_LEAST_COMMANDS, height - taken)
    if commands:
        parts.append(_commands_view(commands[:room]))
        parts.append(Text("mean: in this refresh; percentiles: since the server started", "dim"))
    if len(commands) > room:
        parts.append(Text(f"and {len(commands) - room} other commands", "dim"))
    return Group(*parts)


def _headline(refresh: Refresh) -> Text:
    whose = f"named {refresh.client_name}" if refresh.client_name else "of all clients"
    each = "process and node" if refresh.kind == "cluster" else "process"
    known = "?" if refresh.connections is None else f"{refresh.connections:,}"
    return Text.assemble(
        (refresh.client, "bold"),
        f"  {refresh.time.astimezone():%H:%M:%S}  ",
        (f"{_number(refresh.per_second)} commands/s", "bold green"),
        f"\npool: {known} connections {whose}, at most {refresh.max_connections} for each {each}",
    )


def _servers_view(refresh: Refresh) -> Table:
    made = table(
        "server", "role", "calls/s", "ping", "memory", "clients", "blocked", "pool",
        right=("calls/s", "ping", "memory", "clients", "blocked", "pool"),
    )  # fmt: skip
    for state in refresh.servers:
        sample = state.sample
        if sample is None:
            made.add_row(cell(state.address), Text("away", "red"))
            continue
        made.add_row(
            cell(state.address),
            cell(sample.role),
            _number(state.per_second),
            _milliseconds(statistics.median(state.round_trips)),
            _memory(sample.info),
            str(sample.info.get("connected_clients", "?")),
            str(sample.info.get("blocked_clients", "?")),
            "?" if sample.connections is None else str(sample.connections),
        )
    if len(refresh.counted) > 1:
        total = ("sum", "", _number(refresh.per_second), "", "", "", "", str(refresh.connections))
        made.add_section()
        made.add_row(*total, style="bold")
    return made


def _commands_view(commands: Sequence[CommandRate]) -> Table:
    columns = ("calls/s", "mean", *PERCENTILES)
    made = table("command", *columns, right=columns)
    for rate in commands:
        percentiles = (rate.percentiles.get(name) for name in PERCENTILES)
        made.add_row(
            cell(rate.command.upper().replace("|", " ")),
            _number(rate.per_second),
            _microseconds(rate.mean),
            *(_microseconds(value) for value in percentiles),
        )
    return made


def _number(value: float | None) -> str:
    if value is None:
        return "?"
    return f"{value:,.0f}" if value >= 100 else f"{value:,.1f}"


def _milliseconds(seconds: float) -> str:
    return f"{seconds * 1000:.2f} ms"


def _microseconds(value: float | None) -> str:
    return "?" if value is None else f"{_number(value)} µs"


def _memory(info: Any) -> str:
    used = str(info.get("used_memory_human", "?"))
    return f"{used}/{info['maxmemory_human']}" if info.get("maxmemory") else used


def as_json(refresh: Refresh) -> dict[str, Any]:
    """A refresh for machines; times are seconds, but where the key says microseconds."""
    return {
        "time": refresh.time.isoformat(),
        "client": refresh.client,
        "kind": refresh.kind,
        "error": refresh.error,
        "commands_per_second": refresh.per_second,
        "pool": {
            "client_name": refresh.client_name,
            "connections": refresh.connections,
            "max_connections": refresh.max_connections,
        },
        "commands": [_command_as_json(rate) for rate in refresh.commands],
        "servers": [_server_as_json(state) for state in refresh.servers],
    }


def _server_as_json(state: ServerState) -> dict[str, Any]:
    found: dict[str, Any] = {"address": state.address, "error": state.error}
    sample = state.sample
    if sample is None:
        return found
    commands = state.commands
    names = ("used_memory", "maxmemory", "connected_clients", "blocked_clients")
    return found | {
        "role": sample.role,
        "commands_per_second": state.per_second,
        "round_trip": sample.round_trip,
        "connections": sample.connections,
        **{name: sample.info.get(name) for name in names},
        "commands": None if commands is None else list(map(_command_as_json, commands)),
    }


def _command_as_json(rate: CommandRate) -> dict[str, Any]:
    return {
        "command": rate.command,
        "per_second": rate.per_second,
        "mean_microseconds": rate.mean,
        "percentiles_microseconds": rate.percentiles,
    }
