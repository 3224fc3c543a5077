"""The weather's process, and how a hunt talks to it."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .cluster import ClusterWeather
from .sentinel import SentinelWeather
from .standalone import StandaloneWeather

TOPOLOGIES = {
    "standalone": StandaloneWeather,
    "sentinel": SentinelWeather,
    "cluster": ClusterWeather,
}


@dataclass
class Places:
    """The addresses of a hunt's servers, all on 127.0.0.1."""

    nodes: list[int]
    """The ports of the servers with data."""
    proxies: dict[int, int]
    """The port of the lossy way to each of them."""
    sentinels: list[int]
    url: str = ""
    """The URL of the Sentinels; empty without any."""

    def server_of(self, port: int) -> int:
        """Return the port of the server that a port leads to, by its proxy or directly."""
        for node, proxy in self.proxies.items():
            if port == proxy:
                return node
        return port


class WeatherProcess:
    """The weather, as seen from the process that lives in it."""

    def __init__(self, topology: str, seed: int, fails: bool) -> None:
        command = [sys.executable, "-m", __spec__.name, topology, "--seed", str(seed)]
        self._process = subprocess.Popen(
            command + ([] if fails else ["--calm"]),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        said = self._read()
        self.places = Places(
            nodes=said["nodes"],
            proxies={int(port): proxy for port, proxy in said["proxies"].items()},
            sentinels=said.get("sentinels", []),
            url=said.get("url", ""),
        )

    def _read(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        said: dict[str, Any] = json.loads(self._process.stdout.readline())
        return said

    def _tell(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{line}\n")
        self._process.stdin.flush()

    def calm_down(self) -> tuple[dict[str, int], list[tuple[int, int]]]:
        """End the faults; all servers are there then.

        Returns how many of each fault there were, and the times (of ``time.monotonic_ns()``) in
        which acknowledged writes may have been lost.
        """
        self._tell("calm")
        said = self._read()
        return said["counts"], [(start, end) for start, end in said["losses"]]

    def end(self) -> None:
        self._tell("end")
        self._process.wait(20)


def main() -> None:
    parser = argparse.ArgumentParser(prog=f"python -m {__spec__.name}", description=__doc__)
    parser.add_argument("topology", choices=TOPOLOGIES)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--calm", action="store_true", help="let nothing fail")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="hunt") as directory:
        TOPOLOGIES[given.topology](given.seed, fails=not given.calm).run(Path(directory))


if __name__ == "__main__":
    main()
