"""Copies of the service of docs/guides/leaving_baseplate, each with a server of its own."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import redis

from ...support.servers import Server, wait_until
from ...support.workers import PROJECT

SERVICE = PROJECT / "docs" / "guides" / "leaving_baseplate"
_CLIENT = Path(__file__).parent / "votes_client.py"
_SECONDS = 60


@dataclass
class VotesService:
    """The service as it is after one step, in a directory of its own."""

    directory: Path
    server: Server
    python: str = sys.executable

    @classmethod
    def copied(
        cls, step: str, directory: Path, server: Server, python: str = sys.executable
    ) -> VotesService:
        """Copy a step's files, and let its settings name the server.

        :param step: such as ``"before"``.
        :param directory: gets a new directory with the copy.
        :param python: the interpreter with the packages that the step needs.
        """
        target = directory / step
        shutil.copytree(SERVICE / step, target)
        settings = target / "service.ini"
        text = settings.read_text()
        assert "redis://localhost:6379/0" in text
        settings.write_text(text.replace("redis://localhost:6379/0", server.url))
        return cls(target, server, python)

    @property
    def environment(self) -> dict[str, str]:
        paths = [str(self.directory)]
        if self.python == sys.executable:
            paths.append(str(PROJECT))
        return {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}

    def talk(self) -> dict[str, Any]:
        """Send the requests of :mod:`.votes_client`, and return what they did."""
        done = subprocess.run(
            [self.python, str(_CLIENT)],
            cwd=self.directory, env=self.environment, capture_output=True, text=True,
            check=False, timeout=_SECONDS,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        said: dict[str, Any] = json.loads(done.stdout)
        return said

    @contextmanager
    def worker(self, *command: str) -> Iterator[None]:
        """Run a worker, and stop it at the end.

        :param command: the program and its arguments.
        """
        with open(self.directory / "worker.log", "wb") as log:
            process = subprocess.Popen(
                command,
                cwd=self.directory, env=self.environment, stdout=log, stderr=log,
            )  # fmt: skip
            try:
                yield
            finally:
                process.kill()
                process.wait(_SECONDS)

    def wait_until_ranked(self) -> None:
        """Wait until the worker has ranked the first post, whose votes are +1, -1 and +1."""
        with redis.Redis(port=self.server.port) as client:
            try:
                wait_until(lambda: client.zscore("top", 1) == 1, 20)
            except AssertionError:
                raise AssertionError((self.directory / "worker.log").read_text()) from None
