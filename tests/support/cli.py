"""Runs ``predis`` on applications of the tests."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from pyramid_baseplate_redis.cli.main import main

ROOT = Path(__file__).parents[2]
PREDIS = Path(sys.executable).with_name("predis")


class Ended(NamedTuple):
    """How a command ended, and what it wrote."""

    status: int
    out: str
    err: str

    @property
    def lines(self) -> list[Any]:
        """Its JSON, an object a line."""
        return [json.loads(line) for line in self.out.splitlines()]

    @property
    def json(self) -> Any:
        (only,) = self.lines
        return only


class Predis:
    """``predis`` in this process, on an .ini file with the settings given."""

    def __init__(
        self, directory: Path, capsys: pytest.CaptureFixture[str], patch: pytest.MonkeyPatch
    ) -> None:
        self.ini = directory / "app.ini"
        self._capsys = capsys
        self._patch = patch

    def write(self, app: str = "main", **settings: str) -> None:
        """Write the .ini file; ``foo__url`` is ``foo.url``."""
        lines = [f"{key.replace('__', '.')} = {value}" for key, value in settings.items()]
        self.write_text(
            "\n".join(["[app:main]", f"use = call:tests.support.cli_app:{app}", *lines, ""])
        )

    def write_text(self, text: str) -> None:
        self.ini.write_text(text)

    def __call__(
        self, command: str, *arguments: str, stdin: bytes | None = None, terminal: bool = False
    ) -> Ended:
        if stdin is not None:
            stream = io.TextIOWrapper(io.BytesIO(stdin))
            self._patch.setattr(stream, "isatty", lambda: terminal)
            self._patch.setattr(sys, "stdin", stream)
        self._capsys.readouterr()
        status = main([command, str(self.ini), *arguments])
        return Ended(status, *self._capsys.readouterr())
