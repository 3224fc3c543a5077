"""Mutants of a module: cosmic-ray's operators, without those that show nothing."""

from __future__ import annotations

import ast
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from cosmic_ray.ast import ast_nodes, get_ast
from cosmic_ray.mutating import mutate_code
from cosmic_ray.operators.provider import OperatorProvider

from .groups import PACKAGE
from .operators import OWN_OPERATORS

# Each operator once, to its boundary and to its opposite. cosmic-ray has all permutations; most of
# those that are left out raise a TypeError, which any test notices.
_CORE = (
    "AddNot", "NumberReplacer", "ZeroIterationForLoop",
    "ReplaceTrueWithFalse", "ReplaceFalseWithTrue", "ReplaceAndWithOr", "ReplaceOrWithAnd",
    "ReplaceBreakWithContinue", "ReplaceContinueWithBreak", "ReplaceUnaryOperator_Delete_Not",
    "ReplaceUnaryOperator_USub_UAdd",
    *(
        f"ReplaceComparisonOperator_{change}"
        for change in (
            "Eq_NotEq", "NotEq_Eq", "Is_IsNot", "IsNot_Is", "Lt_LtE", "LtE_Lt", "Gt_GtE", "GtE_Gt",
            "Lt_GtE", "LtE_Gt", "Gt_LtE", "GtE_Lt",
        )
    ),
    *(
        f"ReplaceBinaryOperator_{change}"
        for change in (
            "Add_Sub", "Sub_Add", "Mul_Div", "Div_Mul", "FloorDiv_Mul", "Mod_Mul", "BitOr_BitAnd",
            "BitAnd_BitOr",
        )
    ),
)  # fmt: skip
_LOGGING = {"debug", "info", "warning", "error", "exception", "log"}


@dataclass(frozen=True)
class Mutant:
    """One change of one module.

    :param module: its path, relative to the package.
    :param text: the module's text.
    :param function: the qualified name of the function that is changed, or an empty string.
    :param operator: the name of the operator that makes the change, at its ``occurrence``.
    """

    module: str
    text: str = field(repr=False)
    function: str
    line: int
    operator: str
    occurrence: int

    @cached_property
    def source(self) -> str:
        """Return the changed text."""
        return str(mutate_code(self.text, _operator(self.operator), self.occurrence))

    @cached_property
    def key(self) -> tuple[str, str, str, str]:
        """Return module, function, and the lines that differ: before and after the change.

        This identification stays when the module's lines move.
        """
        return self.module, self.function, *_difference(self.text, self.source)


def find_mutants(module: str) -> list[Mutant]:
    """Return the mutants of a module, given as a path relative to the package."""
    return list(mutants_of(module, (PACKAGE / module).read_text()))


def mutants_of(module: str, text: str) -> Iterator[Mutant]:
    """Yield the mutants of ``text``."""
    noise = _Noise(text)
    nodes = list(ast_nodes(get_ast(text)))
    for name in (*_CORE, *OWN_OPERATORS):
        operator = _operator(name)
        positions = (
            (node, *place) for node in nodes for place in operator.mutation_positions(node)
        )
        for occurrence, (node, start, end) in enumerate(positions):
            if not (_is_marker(node) or noise.covers(name, start, end)):
                function = noise.function_at(start[0])
                yield Mutant(module, text, function, start[0], name, occurrence)


def sample(mutants: list[Mutant], size: int | None, seed: str) -> list[Mutant]:
    """Return ``size`` mutants; ``None`` returns all.

    The same seed gives the same mutants, and a larger sample contains the smaller ones.
    """
    shuffled = list(mutants)
    random.Random(seed).shuffle(shuffled)
    return shuffled[:size]


def _operator(name: str) -> Any:
    own = OWN_OPERATORS.get(name)
    return own() if own else OperatorProvider()[name]()


def _difference(before: str, after: str) -> tuple[str, str]:
    """Return the lines that differ, on one line and without indentation."""
    old, new = before.splitlines(), after.splitlines()
    while old and new and old[0] == new[0]:
        del old[0], new[0]
    while old and new and old[-1] == new[-1]:
        del old[-1], new[-1]
    return " ".join(line.strip() for line in old), " ".join(line.strip() for line in new)


class _Noise:
    """The places of a module where a change shows nothing about its tests."""

    def __init__(self, text: str) -> None:
        self._spans: list[tuple[tuple[int, int], tuple[int, int]]] = []
        self._conditions: set[tuple[int, int]] = set()
        self._functions: list[tuple[int, int, str]] = []
        self._visit(ast.parse(text), "")

    def covers(self, operator: str, start: tuple[int, int], end: tuple[int, int]) -> bool:
        if operator == "AddNot" and start in self._conditions:
            return True  # another operator makes the same change
        return any(first <= start and end <= last for first, last in self._spans)

    def function_at(self, line: int) -> str:
        """Return the innermost function that has the line."""
        around = [(first, name) for first, last, name in self._functions if first <= line <= last]
        return max(around)[1] if around else ""

    def _visit(self, node: ast.AST, scope: str) -> None:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            scope = f"{scope}.{node.name}" if scope else node.name
            for decorator in node.decorator_list:
                self._skip(decorator)
        if isinstance(node, ast.FunctionDef):
            self._functions.append((node.lineno, node.end_lineno or 0, scope))
            self._skip(node.returns)
        elif isinstance(node, (ast.arg, ast.AnnAssign)):
            self._skip(node.annotation)
        elif isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call):
            self._skip(*node.exc.args)  # the text of a message
        elif _is_logging(node):
            self._skip(*node.args)  # type: ignore[attr-defined]
        elif isinstance(node, ast.BinOp) and _is_union(node):
            self._skip(node)
        elif isinstance(node, ast.keyword) and node.arg == "strict":
            self._skip(node.value)  # zip() checks the code itself
        elif isinstance(node, (ast.If, ast.While, ast.IfExp)):
            if isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
                self._skip(node)
            if ast.unparse(node.test).startswith("sys.version_info"):
                self._skip(node.test)  # decides on another Python
            first = _first_operand(node.test)
            mutated = (
                isinstance(first, ast.Compare)
                and len(first.ops) == 1
                and not isinstance(first.ops[0], (ast.In, ast.NotIn))
            )
            negated = isinstance(first, ast.UnaryOp) and isinstance(first.op, ast.Not)
            if mutated or negated:
                self._conditions.add((node.test.lineno, node.test.col_offset))
        for child in ast.iter_child_nodes(node):
            self._visit(child, scope)

    def _skip(self, *nodes: ast.expr | ast.stmt | None) -> None:
        for node in nodes:
            if node is not None:
                end = node.end_lineno or 0, node.end_col_offset or 0
                self._spans.append(((node.lineno, node.col_offset), end))


def _is_marker(node: Any) -> bool:
    """Return whether this is the ``*`` or ``/`` of a signature; cosmic-ray takes it for a sign."""
    return node.type == "operator" and node.parent.type in ("parameters", "lambdef")


def _first_operand(test: ast.expr) -> ast.expr:
    """Return the part of a condition to which a ``not`` before the condition applies."""
    return _first_operand(test.values[0]) if isinstance(test, ast.BoolOp) else test


def _is_logging(node: ast.AST) -> bool:
    return (
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr in _LOGGING
    )


def _is_union(node: ast.BinOp) -> bool:
    """Return whether this is a type such as ``int | None``."""
    return isinstance(node.op, ast.BitOr) and any(
        isinstance(side, ast.Constant) and (side.value is None or isinstance(side.value, str))
        for side in (node.left, node.right)
    )
