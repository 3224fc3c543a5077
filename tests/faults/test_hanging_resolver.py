"""A name server that does not answer: how long the system's own resolver tries.

The look-ups run in namespaces of their own, with a silent name server and a resolv.conf of theirs.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[2]
_UNSHARE = ["unshare", "--net", "--mount"]
_LOOK_UP = r"""
import socket, time
from pyramid.config import Configurator
from pyramid_baseplate_redis import ping_all, pool_from_config
import redis

silent = []
for address in ("127.0.0.1", "127.0.0.2"):
    silent.append(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    silent[-1].bind((address, 53))
settings = {"foo.url": "redis://redis.example.org/0", "foo.health_timeout": "300 milliseconds"}
pool = pool_from_config(settings, "foo.")
started = time.monotonic()
try:
    redis.Redis(connection_pool=pool).ping()
except redis.ConnectionError as error:
    print(time.monotonic() - started)
config = Configurator(settings=settings)
config.include("pyramid_baseplate_redis")
config.commit()
started = time.monotonic()
(health,) = ping_all(config.registry)
assert not health.ok
print(time.monotonic() - started)
"""


def _may_unshare() -> bool:
    try:
        return subprocess.run([*_UNSHARE, "true"], check=False, capture_output=True).returncode == 0
    except OSError:
        return False


@pytest.mark.slow("waits for name servers that do not answer")
@pytest.mark.alone("measures how long the resolver tries")
@pytest.mark.parametrize(
    ("configuration", "seconds"),
    [
        ("nameserver 127.0.0.1\noptions timeout:1 attempts:1\n", 1),
        ("nameserver 127.0.0.1\noptions timeout:1 attempts:2\n", 2),
        ("nameserver 127.0.0.1\nnameserver 127.0.0.2\noptions timeout:1 attempts:1\n", 2),
        ("nameserver 127.0.0.1\nsearch example.net\noptions timeout:1 attempts:1\n", 2),
    ],
    ids=["one attempt", "two attempts", "two name servers", "a search domain"],
)
def test_the_formula_of_the_guide(configuration: str, seconds: int, tmp_path: Path) -> None:
    if not _may_unshare():
        pytest.skip("needs permission for namespaces")
    (tmp_path / "resolv.conf").write_text(configuration)
    script = (
        'ip link set lo up && mount --bind "$1" /etc/resolv.conf && exec "$2" -W ignore -c "$3"'
    )
    command = ["sh", "-ec", script, "sh", str(tmp_path / "resolv.conf"), sys.executable, _LOOK_UP]
    ended = subprocess.run(
        [*_UNSHARE, *command], cwd=PROJECT, check=False, capture_output=True, text=True, timeout=60
    )
    assert ended.returncode == 0, ended.stderr
    of_command, of_probe = map(float, ended.stdout.split())
    assert seconds * 0.9 <= of_command < seconds + 0.9
    assert of_probe < 0.3 + 0.6  # the probe's thread goes on looking; its caller does not
