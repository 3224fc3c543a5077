"""Reads systemd's unit files."""

from __future__ import annotations

from pathlib import Path


def setting(unit: Path, section: str, name: str) -> str:
    """Return the only value of a setting in a section of a unit file."""
    current, values = "", []
    for line in unit.read_text().replace("\\\n", "").splitlines():
        if line.startswith("["):
            current = line.strip("[]")
        elif current == section and line.startswith(f"{name}="):
            values.append(line.partition("=")[2])
    (value,) = values
    return value
