"""The bounds behind Sentinel and on a Cluster: a file of their own, for another worker."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from .bounds.checks import FAULTS, all_faults, no_bound_is_missed
from .bounds.faults import Fault
from .test_bounds import is_of_a_topology


@pytest.fixture(scope="module")
def faults(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Fault]]:
    with all_faults(tmp_path_factory.mktemp("bounds")) as found:
        yield found


@pytest.mark.slow("waits for timeouts under each fault")
@pytest.mark.timed("measures how long the timeouts take")
@pytest.mark.parametrize("name", [*filter(is_of_a_topology, FAULTS)])
def test_no_bound_is_missed(name: str, faults: dict[str, Fault]) -> None:
    no_bound_is_missed(faults[name])
