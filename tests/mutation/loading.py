"""Import the package with a changed module, without changing any file."""

from __future__ import annotations

import ast
import builtins
import sys
from collections.abc import Callable
from importlib.machinery import PathFinder, SourceFileLoader
from pathlib import Path
from typing import Any

from .groups import PACKAGE

HITS = "__functions_that_ran__"


class Loader(SourceFileLoader):
    """Compiles a module from what ``change`` returns for its path and text."""

    def __init__(self, name: str, path: str, change: Callable[[str, str], Any]) -> None:
        super().__init__(name, path)
        self._change = change

    def get_code(self, fullname: str) -> Any:
        path = Path(self.path)
        changed = self._change(str(path.relative_to(PACKAGE)), path.read_text())
        if changed is None:
            return super().get_code(fullname)
        return compile(changed, self.path, "exec", dont_inherit=True)


class Finder:
    """Finds the package's modules for :class:`Loader`."""

    def __init__(self, change: Callable[[str, str], Any]) -> None:
        self._change = change

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        if name.split(".")[0] != PACKAGE.name:
            return None
        spec = PathFinder.find_spec(name, path, target)
        if spec is not None and spec.origin:
            spec.loader = Loader(name, spec.origin, self._change)
        return spec


def load_changed(change: Callable[[str, str], Any]) -> None:
    """Compile the package's modules from what ``change`` returns, in this process.

    :param change: gets the module's path, relative to the package, and its text, and returns the
        source or the tree to compile, or ``None`` for the file as it is.
    """
    assert PACKAGE.name not in sys.modules, "The package has been imported."
    sys.meta_path.insert(0, Finder(change))


def record_functions() -> set[str]:
    """Have each function of the package add its name to the set that is returned.

    A tracer is no choice: tests of interruptions set their own.
    """
    hits: set[str] = set()
    setattr(builtins, HITS, hits.add)
    load_changed(_with_hits)
    return hits


def _with_hits(module: str, text: str) -> ast.Module:
    tree = ast.parse(text)
    _add_hits(tree, module, "")
    return ast.fix_missing_locations(tree)


def _add_hits(node: ast.AST, module: str, scope: str) -> None:
    if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
        scope = f"{scope}.{node.name}" if scope else node.name
    for child in ast.iter_child_nodes(node):
        _add_hits(child, module, scope)
    if isinstance(node, ast.FunctionDef):
        hit = ast.parse(f"{HITS}({module + ':' + scope!r})").body[0]
        after_docstring = 1 if ast.get_docstring(node) is not None else 0
        first = node.body[min(after_docstring, len(node.body) - 1)]
        for part in ast.walk(hit):
            ast.copy_location(part, first)
        node.body.insert(after_docstring, hit)
