"""Put switch points into the source of a module: calls at which the scheduler may act.

CPython lets another thread run, and runs signal handlers, after a call and at the start of a
function. So there is a point after each call, and one before each statement. What lies between
two points, such as ``self.count += 1``, is one step for the scheduler, as it is for CPython.
"""

from __future__ import annotations

import ast
from typing import Any

STATEMENT, CALL = "__point__", "__after__"


class _Marker(ast.NodeTransformer):
    """Transform the functions of a module; the module's and the classes' own level stay."""

    def __init__(self, file: str) -> None:
        self._file = file
        self._functions: list[str] = []

    def _place(self, node: Any) -> ast.Constant:
        return ast.Constant(f"{self._file}:{node.lineno} {self._functions[-1]}")

    def _visit_function(self, node: Any) -> Any:
        self._functions.append(node.name)
        node.body = self._block(node.body)
        self._functions.pop()
        return node

    visit_FunctionDef = _visit_function  # noqa: N815  # the names that ast wants

    def visit_Call(self, node: ast.Call) -> ast.AST:
        self.generic_visit(node)
        if not self._functions:
            return node
        point = ast.Name(CALL, ast.Load())
        return ast.copy_location(ast.Call(point, [node, self._place(node)], []), node)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST:
        if node.value is not None:
            node.value = self.visit(node.value)
        return node

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.AST:
        node.body = [self.visit(item) for item in node.body]
        return node

    def _block(self, statements: list[ast.stmt]) -> list[ast.stmt]:
        marked: list[ast.stmt] = []
        for statement in statements:
            point = ast.Name(STATEMENT, ast.Load())
            call = ast.Expr(ast.Call(point, [self._place(statement)], []))
            marked += [ast.copy_location(call, statement), self.visit(statement)]
        return marked

    def generic_visit(self, node: ast.AST) -> ast.AST:
        """Transform expressions, and the blocks of statements such as ``if`` and ``try``."""
        for field, value in ast.iter_fields(node):
            if isinstance(value, list) and value and isinstance(value[0], ast.stmt):
                is_code = self._functions and not isinstance(node, ast.Module)
                new = self._block(value) if is_code else [self.visit(item) for item in value]
                setattr(node, field, new)
            elif isinstance(value, list):
                new = [self.visit(item) if isinstance(item, ast.AST) else item for item in value]
                setattr(node, field, new)
            elif isinstance(value, ast.AST):
                setattr(node, field, self.visit(value))
        return node


def with_points(source: str, file: str) -> ast.Module:
    """Return the syntax tree of a module with a point at each step.

    :param source: the module's text.
    :param file: its name, for the trace.
    """
    tree: ast.Module = _Marker(file).visit(ast.parse(source))
    return ast.fix_missing_locations(tree)
