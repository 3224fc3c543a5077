"""Virtual environments with a project, what its tests need, and this package."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from ..support.workers import PROJECT
from .projects import Project

# Beside what pytest caches: a second run finds it there, and --cache-clear removes it.
ENVIRONMENTS = PROJECT / ".pytest_cache" / "d" / "peers"
_OURS = ("pytest", "wrapt", "opentelemetry-sdk", "-e", str(PROJECT))


def python_with(name: str, project: Project, checkout: Path) -> str:
    """Return the interpreter of a project's environment, which is made if there is none.

    :raises subprocess.CalledProcessError: if something can't be installed.
    """
    directory = ENVIRONMENTS / f"{name}-{checkout.name}"
    python = directory / "bin" / "python"
    installed = directory / "installed"
    if not installed.exists():
        subprocess.run((sys.executable, "-m", "venv", "--clear", str(directory)), check=True)
        subprocess.run(
            (
                str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check",
                f"{checkout}{project.extras}", *project.requirements, *_OURS,
            ),
            check=True,
        )  # fmt: skip
        installed.touch()
    return str(python)
