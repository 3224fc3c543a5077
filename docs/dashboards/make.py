"""Write the dashboards of this folder as Grafana imports them.

python docs/dashboards/make.py

It needs the package grafana-foundation-sdk, and so Python 3.11 or newer. Change the panels in
opentelemetry_dashboard.py and baseplate_dashboard.py, not in the JSON.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import baseplate_dashboard
import opentelemetry_dashboard
from grafana_foundation_sdk.cog.encoder import JSONEncoder

DASHBOARDS = {
    "opentelemetry.json": opentelemetry_dashboard.build_dashboard,
    "baseplate.json": baseplate_dashboard.build_dashboard,
}


def write_dashboards(folder: Path) -> None:
    """Write each dashboard to its file in ``folder``."""
    for name, build in DASHBOARDS.items():
        text = json.dumps(build(), cls=JSONEncoder, indent=2, sort_keys=True)
        (folder / name).write_text(f"{text}\n")


if __name__ == "__main__":
    write_dashboards(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent)
