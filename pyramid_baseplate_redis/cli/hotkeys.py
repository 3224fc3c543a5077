"""``predis hotkeys``: the keys that are read and written most."""

from __future__ import annotations

import argparse

from rich.text import Text

from ..telemetry.hot_keys.commands import SETS
from ..telemetry.hot_keys.tracker import hot_keys
from .application import Application
from .arguments import number
from .output import Output, cell, lossless, table

HELP = "show the keys that are read and written most"


def add_arguments(parser: argparse.ArgumentParser) -> list[argparse.ArgumentParser]:
    """Add the command's own; returns the parser that is to have the common ones."""
    parser.add_argument("name", metavar="NAME", help="the client, request.NAME")
    parser.add_argument("--kind", choices=list(SETS), help="of one kind only")
    parser.add_argument(
        "--count", metavar="N", type=number, default=10, help="how many of each at most (10)"
    )
    return [parser]


def run(application: Application, arguments: argparse.Namespace, output: Output) -> int:
    """Show them, most of all first."""
    client = application.client(arguments.name)
    kinds = [arguments.kind] if arguments.kind else list(SETS)
    found = {kind: hot_keys(client, kind, arguments.count) for kind in kinds}
    view = table("kind", "samples", "key", right=("samples",))
    for kind, keys in found.items():
        for key, samples in keys:
            view.add_row(kind, f"{samples:,.0f}", cell(key))
    data = {
        kind: [{**lossless(key), "samples": samples} for key, samples in keys]
        for kind, keys in found.items()
    }
    nothing = Text(
        f"{arguments.name}: no samples; the settings {arguments.name}.track_key_reads_sample_rate "
        f"and {arguments.name}.track_key_writes_sample_rate have them taken"
    )
    output.write(view if view.row_count else nothing, {"client": arguments.name, **data})
    return 0
