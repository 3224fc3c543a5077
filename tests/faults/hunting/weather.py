"""The weather: a server and a proxy in a process of their own, which are made to fail."""

from __future__ import annotations

import argparse
import contextlib
import json
import random
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import redis

from ...support.servers import running_server
from ..proxy import Proxy


class Weather:
    """A server, a lossy way to it, and a thread that makes them fail until it is told to stop."""

    def __init__(self, seed: int, fails: bool) -> None:
        self.random = random.Random(seed)
        self.counts: Counter[str] = Counter()
        self._fails = fails
        self._stop = threading.Event()

    def main(self) -> None:
        """Tell the ports, make weather until a line says ``calm``, and end with the last line."""
        with (
            tempfile.TemporaryDirectory(prefix="hunt") as directory,
            running_server("valkey", Path(directory)) as server,
            Proxy(server.port) as proxy,
        ):
            self.server, self.proxy = server, proxy
            self.admin = redis.Redis(port=server.port, socket_timeout=1, client_name="admin")
            self._say({"port": server.port, "proxy_port": proxy.port})
            thread = threading.Thread(target=self._run)
            thread.start()
            sys.stdin.readline()
            self._stop.set()
            thread.join()
            self.counts["replies lost"] = proxy.lost
            self._say(dict(self.counts))
            sys.stdin.readline()

    def _say(self, what: object) -> None:
        print(json.dumps(what), flush=True)  # noqa: T201

    def _run(self) -> None:
        events: dict[Callable[[], None], int] = {
            self.kill_some: 40, self.kill_all: 2, self.unblock: 10, self.lose_replies: 25,
            self.cut_replies: 15, self.reset: 3, self.refuse: 2, self.freeze: 2, self.pause: 2,
            self.restart: 4,
        }  # fmt: skip
        while not self._stop.wait(self.random.uniform(0.02, 0.15)):
            if self._fails:
                (event,) = self.random.choices([*events], [*events.values()])
                self.counts[event.__name__.replace("_", " ")] += 1
                with contextlib.suppress(redis.RedisError):
                    event()

    def _while(self, seconds: float) -> None:
        self._stop.wait(seconds)

    def _clients(self) -> list[dict[str, str]]:
        listed: Any = self.admin.client_list()
        return [client for client in listed if client["name"].startswith("hunt")]

    def kill_some(self) -> None:
        clients = self._clients()
        for client in self.random.sample(clients, min(len(clients), self.random.randint(1, 3))):
            self.admin.execute_command("CLIENT", "KILL", "ID", client["id"])

    def kill_all(self) -> None:
        self.admin.execute_command("CLIENT", "KILL", "TYPE", "normal")

    def unblock(self) -> None:
        for client in self._clients():
            if "b" in client["flags"]:
                self.admin.client_unblock(int(client["id"]))

    def lose_replies(self) -> None:
        self.proxy.lose_replies(self.random.choice([0.05, 0.3]))
        self._while(0.1)
        self.proxy.lose_replies(False)

    def cut_replies(self) -> None:
        self.proxy.cut_reply_after(self.random.choice([1, 7, 40]))
        self._while(0.05)
        self.proxy.cut_reply_after(None)

    def reset(self) -> None:
        self.proxy.reset_connections()

    def refuse(self) -> None:
        self.proxy.refuse(True)
        self._while(0.1)
        self.proxy.refuse(False)

    def freeze(self) -> None:
        self.proxy.freeze(True)
        self._while(self.random.choice([0.05, 0.6]))
        self.proxy.freeze(False)

    def pause(self) -> None:
        self.admin.client_pause(self.random.choice([20, 500]))

    def restart(self) -> None:
        self.server.kill()
        self._while(self.random.uniform(0, 0.3))
        self.server.restart()


class WeatherProcess:
    """The weather, as seen from the process that lives in it."""

    def __init__(self, seed: int, fails: bool) -> None:
        command = [sys.executable, "-m", __spec__.name, "--seed", str(seed)]
        self._process = subprocess.Popen(
            command + ([] if fails else ["--calm"]),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        ports = self._read()
        self.port, self.proxy_port = ports["port"], ports["proxy_port"]

    def _read(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        said: dict[str, Any] = json.loads(self._process.stdout.readline())
        return said

    def _tell(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{line}\n")
        self._process.stdin.flush()

    def calm_down(self) -> dict[str, int]:
        """End the faults and return how many of each there were; the server is there then."""
        self._tell("calm")
        return self._read()

    def end(self) -> None:
        self._tell("end")
        self._process.wait(10)


def main() -> None:
    parser = argparse.ArgumentParser(prog=f"python -m {__spec__.name}", description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--calm", action="store_true", help="let nothing fail")
    given = parser.parse_args()
    Weather(given.seed, fails=not given.calm).main()


if __name__ == "__main__":
    main()
