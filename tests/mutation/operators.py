"""Operators that cosmic-ray does not have."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import parso
from cosmic_ray.operators.operator import Example, Operator


class RemoveCall(Operator):  # type: ignore[misc]  # cosmic-ray has no types
    """Replaces a statement that is only a call with ``pass``."""

    def mutation_positions(self, node: Any) -> Iterator[Any]:
        if node.type == "atom_expr" and node.parent.type == "simple_stmt":
            last = node.children[-1]
            if last.type == "trailer" and last.children[0].value == "(":
                yield node.start_pos, node.end_pos

    def mutate(self, node: Any, index: int) -> Any:
        return parso.python.tree.Name("pass", node.start_pos, node.get_first_leaf().prefix)

    @classmethod
    def examples(cls) -> tuple[Example, ...]:
        return (Example("lock.release()\n", "pass\n"),)


class CatchLess(Operator):  # type: ignore[misc]  # as above
    """Has an ``except`` clause catch one exception less.

    cosmic-ray's ``ExceptionReplacer`` fails for dotted names.
    """

    def mutation_positions(self, node: Any) -> Iterator[Any]:
        if node.type == "except_clause":
            for caught in _caught(node):
                yield caught.start_pos, caught.end_pos

    def mutate(self, node: Any, index: int) -> Any:
        others = [caught.get_code().strip() for caught in _caught(node)]
        del others[index]
        node.children[1] = parso.parse(f" ({', '.join([*others, ''])})" if others else " ()")
        return node

    @classmethod
    def examples(cls) -> tuple[Example, ...]:
        return (Example("try: f()\nexcept (A, b.C): pass", "try: f()\nexcept (b.C, ): pass"),)


def _caught(clause: Any) -> list[Any]:
    caught = clause.children[1]
    if caught.type == "atom" and caught.children[1].type == "testlist_comp":
        return [child for child in caught.children[1].children if child != ","]
    return [caught]


OWN_OPERATORS = {"RemoveCall": RemoveCall, "CatchLess": CatchLess}
