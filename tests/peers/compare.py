"""The scrapes of two gunicorn workers of baseplate 2.7.1 and of two of ours, for the same commands.

``python -m tests.peers.compare`` prints the lines in which they differ.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from contextlib import ExitStack, suppress
from pathlib import Path

from ..support.servers import free_port, running_server, wait_until
from ..support.topologies import running_cluster
from ..support.workers import PROJECT, Workers, running_workers
from .documented import documented

REQUIREMENTS = [
    "baseplate[pyramid,redis,redis-py-cluster]==2.7.1",
    "gunicorn",
    "setuptools<80",  # Pyramid 1.10 wants its pkg_resources
]
# Beside what pytest caches: a second run finds it there, and --cache-clear removes it.
ENVIRONMENT = PROJECT / ".pytest_cache" / "d" / "baseplate-2.7.1"
_IMPORTS = "import baseplate.frameworks.pyramid, baseplate.clients.redis_cluster, gunicorn"
_INSTALL_SECONDS = 600


class NotInstallable(Exception):  # noqa: N818  # a reason to skip, not a failure
    """Why baseplate can't be installed here."""


def installed_baseplate(directory: Path = ENVIRONMENT) -> str:
    """The interpreter of an environment with baseplate, which is made if there is none.

    :raises NotInstallable: if that isn't possible, as without a network.
    """
    python = directory / "bin" / "python"
    if not python.exists():
        directory.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=directory.parent) as temporary:
            made = Path(temporary) / "environment"
            _run(sys.executable, "-m", "venv", str(made))
            _run(
                str(made / "bin" / "python"), "-m", "pip", "install", "--quiet", "--retries", "1",
                "--disable-pip-version-check", *REQUIREMENTS,
            )  # fmt: skip
            _run(str(made / "bin" / "python"), "-c", _IMPORTS)
            if not python.exists():  # another run may have been faster
                made.rename(directory)
    return str(python)


def _run(*command: str) -> None:
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=_INSTALL_SECONDS
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NotInstallable(str(error)) from error
    if done.returncode:
        said = (done.stderr or done.stdout).strip().splitlines()
        raise NotInstallable(said[-1] if said else f"exit status {done.returncode}")


def both_scrapes(python: str, directory: Path) -> tuple[list[str], list[str]]:
    """What baseplate's workers tell, and ours, when each has sent all commands.

    :param python: baseplate's interpreter.
    :param directory: for the servers and for the workers' files.
    """
    peers = str(Path(__file__).parent)
    with ExitStack() as stack:
        server = stack.enter_context(running_server("valkey", directory))
        cluster = stack.enter_context(running_cluster("valkey", directory))
        environment = {
            "SERVER": f"127.0.0.1:{server.port}",
            "CLUSTER": cluster.nodes[0].address,
            "DOWN": f"127.0.0.1:{free_port()}",
        }

        def started(name: str, own: str, application: str, *options: str) -> Workers:
            files = directory / name
            files.mkdir()
            more = {**environment, "PROMETHEUS_MULTIPROC_DIR": str(files)}
            workers = stack.enter_context(running_workers(own, application, more, *options))
            assert workers.ask_each("/run") == [True, True]
            return workers

        theirs = comparable(
            started("theirs", python, "baseplate_app:application()", "--chdir", peers).scrape()
        )
        workers = started("ours", sys.executable, "tests.peers.own_app:application()")
        ours: list[str] = []

        def is_as_documented() -> bool:
            ours[:] = comparable(workers.scrape())
            return differences(theirs, ours) == documented()

        with suppress(AssertionError):  # gauges are written once a second
            wait_until(is_as_documented, 20)
        return theirs, ours


def comparable(scrape: str) -> list[str]:
    """The lines about Redis, without what depends on how long things took, sorted."""
    lines = []
    for line in scrape.splitlines():
        if "redis_client_" not in line:
            continue
        if line.startswith("# HELP"):
            line = f"{line.rpartition('redis_client_')[0]}{line.split()[2]} ..."
        finite = "_bucket{" in line and 'le="+Inf"' not in line
        # How many connections to how many nodes depends on where the slots are.
        nodes = "_connections{" in line and '"ring"' in line
        if finite or nodes or "_latency_seconds_sum{" in line:
            line = re.sub(r" \S+$", " ...", line)
        lines.append(_with_sorted_labels(line))
    return sorted(lines)


def _with_sorted_labels(line: str) -> str:
    found = re.fullmatch(r"(\w+)\{(.*)\} (\S+)", line)
    if found is None:
        return line
    name, labels, value = found.groups()
    return f"{name}{{{','.join(sorted(labels.split(',')))}}} {value}"


def differences(theirs: list[str], ours: list[str]) -> list[str]:
    """What only one of them has: ``-`` baseplate, ``+`` ours."""
    only_theirs = [f"- {line}" for line in theirs if line not in ours]
    only_ours = [f"+ {line}" for line in ours if line not in theirs]
    return sorted([*only_theirs, *only_ours], key=lambda line: (line[2:], line[0]))


def main() -> None:
    python = installed_baseplate()
    with tempfile.TemporaryDirectory() as directory:
        theirs, ours = both_scrapes(python, Path(directory))
    print(f"{len(set(theirs) & set(ours))} lines are the same")  # noqa: T201
    for line in differences(theirs, ours):
        print(line)  # noqa: T201


if __name__ == "__main__":
    main()
