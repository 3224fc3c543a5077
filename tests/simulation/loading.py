"""Load copies of the pool's modules, with switch points and on simulated time, locks and sockets.

The product needs no hooks for it. The copies keep their names and import each other; their
``import time`` gets the simulated module, through the builtins that each module has of its own.
``sys.modules`` is not changed, so other tests in the same process see the real modules.
"""

from __future__ import annotations

import builtins
import importlib
import importlib.util
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from .points import CALL, STATEMENT, with_points
from .scheduler import after, point

PACKAGE = "pyramid_baseplate_redis"
#: The modules in which every step is a switch point.
MARKED = frozenset(
    f"{PACKAGE}.{name}"
    for name in (
        "client.open_resources", "pool.blocking_pool", "pool.circuit_breaker", "pool.connection",
        "pool.connections.slot",
        "pool.deadline_parser", "pool.demotion", "pool.direct.connection", "pool.fair_queue",
        "pool.housekeeping", "pool.owned_connection", "runtime.background", "runtime.claims",
    )
)  # fmt: skip
# The other modules that are copied: they import those above, or measure time.
_COPIED = (f"{PACKAGE}.pool", f"{PACKAGE}.runtime.deadline")


class Identity:
    """Stands for a connection in place of an object: its number is the same in each run."""

    def __init__(self, number: int) -> None:
        self.number = number


def _numbered(what: Any) -> int:
    """Return an object's number if it has one, since addresses of objects differ between runs."""
    return what.number if type(what) is Identity else id(what)


class Copies:
    """Copies of the modules, by their names.

    :param simulated: the modules that take the place of those of the standard library.
    :param changes: for each module, texts of its source and what to replace them with.
    """

    def __init__(
        self,
        simulated: Mapping[str, Any],
        changes: Mapping[str, tuple[tuple[str, str], ...]] | None = None,
    ) -> None:
        self._simulated = simulated
        self._changes = {f"{PACKAGE}.{name}": pairs for name, pairs in (changes or {}).items()}
        self._made: dict[str, ModuleType] = {}

    def __getitem__(self, name: str) -> ModuleType:
        """Return the copy of a module, such as ``pool.fair_queue``."""
        return self._load(f"{PACKAGE}.{name}")

    def _load(self, name: str) -> ModuleType:
        if name in self._made:
            return self._made[name]
        real = importlib.import_module(name)
        file = Path(real.__file__ or "")
        source = file.read_text()
        for old, new in self._changes.get(name, ()):
            if source.count(old) != 1:
                raise ValueError(f"{name}: this is not there exactly once: {old!r}")
            source = source.replace(old, new)
        made = self._made[name] = ModuleType(name)
        if hasattr(real, "__path__"):
            made.__path__ = real.__path__
        vars(made).update(
            __package__=real.__package__,
            __file__=str(file),
            __builtins__={**vars(builtins), "__import__": self._import, "id": _numbered},
            **{STATEMENT: point, CALL: after},
        )
        code: Any = with_points(source, file.name) if name in MARKED else source
        exec(compile(code, str(file), "exec", dont_inherit=True), vars(made))
        return made

    def _import(
        self, name: str, namespace: Any = None, locals_: Any = None,
        names: tuple[str, ...] = (), level: int = 0,
    ) -> Any:  # fmt: skip
        if level == 0 and name in self._simulated:
            return self._simulated[name]
        if level:
            whole = importlib.util.resolve_name("." * level + name, namespace["__package__"])
            if whole in MARKED or whole.startswith(_COPIED):
                return self._load(whole)
        return __import__(name, namespace, locals_, names, level)
