"""A name server that does not answer: how long the system's own resolver tries, and a call waits.

The look-ups run in namespaces of their own, with a silent name server and a resolv.conf of theirs.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from .bounds.limits import Limits
from .bounds.measuring import measured
from .bounds.operations import COMMAND, WITHIN
from .bounds.standalone import Standalone
from .everywhere import everywhere

PROJECT = Path(__file__).parents[2]
_BUSY = 1.0  # seconds by which a machine that runs other tests may be late; the look-up takes 3
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
started = time.monotonic()
try:
    socket.getaddrinfo("redis.example.org", 6379)
except OSError:
    print(time.monotonic() - started)
settings = {
    "foo.url": "redis://redis.example.org/0",
    "foo.socket_connect_timeout": "500 milliseconds",
    "foo.health_timeout": "300 milliseconds",
}
pool = pool_from_config(settings, "foo.")
started = time.monotonic()
try:
    redis.Redis(connection_pool=pool).ping()
except redis.TimeoutError:
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
@pytest.mark.timed("measures how long the resolver tries")
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
    of_resolver, of_command, of_probe = map(float, ended.stdout.split())
    assert seconds * 0.9 <= of_resolver < seconds + 0.9
    assert of_command < 0.5 + 0.6
    assert of_probe < 0.3 + 0.6


@everywhere
def test_a_resolver_that_hangs_costs_the_time_for_connecting(tmp_path: Path) -> None:
    limits = Limits()
    with Standalone(tmp_path, limits) as servers:
        (fault,) = [fault for fault in servers.faults() if fault.name == "DNS hangs"]
        cells = measured(fault, [COMMAND, WITHIN], limits)
    assert [cell.outcome for cell in cells] == ["TimeoutError", "DeadlineExceededError"]
    for cell in cells:
        assert not cell.is_missed(_BUSY), f"{cell.operation} took {cell.measured} seconds"
