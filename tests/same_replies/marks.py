"""Marks that leave out the comparisons with other protocols, which repeat those of the defaults."""

from __future__ import annotations

import pytest

from .clients import DEFAULTS, Shape
from .entries import Group

SLOW = pytest.mark.slow("the same commands run with redis-py's defaults")


def shapes(some: list[Shape]) -> pytest.MarkDecorator:
    """Return a mark with all shapes, of which only the default one is quick."""
    params = [pytest.param(shape, marks=() if shape is DEFAULTS else SLOW) for shape in some]
    return pytest.mark.parametrize("shape", params, ids=str)


def groups_and_shapes(
    groups: list[Group], data: list[Group], some: list[Shape]
) -> pytest.MarkDecorator:
    """Return a mark with all groups in the default shape, and those of data in the others.

    Only the default shape is quick.
    """
    params = [pytest.param(group, DEFAULTS) for group in groups if group.in_pipelines]
    params += [
        pytest.param(group, shape, marks=SLOW)
        for group in data
        for shape in some
        if shape is not DEFAULTS
    ]
    return pytest.mark.parametrize(("group", "shape"), params, ids=str)
