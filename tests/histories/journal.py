"""The journal of a worker process, which may be killed at any moment.

Each event is a line of JSON, appended in one system call: a killed process leaves whole lines.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .queue_contract import Delivery


class Journal:
    """Writes what a worker sees.

    :param path: a file of its own; its name is the name of the worker.
    """

    def __init__(self, path: str | Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def received(self, entry_id: str, number: int, attempts: int, leased_at: int) -> None:
        """The worker has a message."""
        self._write("received", entry_id, number=number, attempts=attempts, leased_at=leased_at)

    def processed(self, entry_id: str) -> None:
        """The handler has done its work."""
        self._write("processed", entry_id)

    def acknowledged(self, entry_id: str) -> None:
        """The acknowledgement has returned."""
        self._write("acknowledged", entry_id)

    def returned(self, entry_id: str) -> None:
        """The worker is about to give the message back, or to report a failure."""
        self._write("returned", entry_id)

    def _write(self, event: str, entry_id: str, **values: Any) -> None:
        line = {"at": time.monotonic_ns(), "event": event, "id": entry_id, **values}
        os.write(self._file, json.dumps(line).encode() + b"\n")


def deliveries(directory: Path, pattern: str) -> Iterator[Delivery]:
    """Read the deliveries of all journals in a directory."""
    for path in sorted(directory.glob(pattern)):
        yield from _deliveries_of(path)


def _deliveries_of(path: Path) -> Iterator[Delivery]:
    held: dict[str, Delivery] = {}
    for line in path.read_text().splitlines():
        event = json.loads(line)
        entry_id, at = event["id"], event["at"]
        if event["event"] == "received":
            held[entry_id] = Delivery(
                entry_id, event["number"], event["attempts"], path.name,
                leased_at=event["leased_at"], received_at=at,
            )  # fmt: skip
            yield held[entry_id]
        elif event["event"] == "processed":
            held[entry_id].is_processed = True
        elif event["event"] == "acknowledged":
            held[entry_id].acknowledged_at = at
        else:
            held[entry_id].returned_at = at
