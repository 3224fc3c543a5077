"""Every bound that the documents promise is kept, and a bound that is missed is reported."""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from .bounds import __main__ as command
from .bounds import formulae
from .bounds.checks import FAULTS, LIMITS, all_faults, no_bound_is_missed
from .bounds.faults import Fault
from .bounds.formulae import FORMULAE, promised
from .bounds.limits import Limits
from .bounds.measuring import Cell, measured, missed
from .bounds.operations import COMMAND, HEALTH, OPERATIONS, WITHIN, App, Operation
from .bounds.table import recorded_bounds, rendered

SERVERS = command.SERVERS
DOCUMENTS = Path(__file__).parents[2] / "docs"


def is_of_a_topology(fault: str) -> bool:
    """Return whether test_bounds_of_topologies.py measures it."""
    return fault.startswith(("Sentinel", "Cluster"))


@pytest.fixture(scope="module")
def faults(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Fault]]:
    with all_faults(tmp_path_factory.mktemp("bounds")) as found:
        yield found


@pytest.mark.slow("waits for timeouts under each fault")
@pytest.mark.timed("measures how long the timeouts take")
@pytest.mark.parametrize("name", [*itertools.filterfalse(is_of_a_topology, FAULTS)])
def test_no_bound_is_missed(name: str, faults: dict[str, Fault]) -> None:
    no_bound_is_missed(faults[name])


def test_the_documents_show_each_fault_and_each_bound() -> None:
    cells = [
        Cell(fault.name, operation.name, reason=fault.left_out[operation.name])
        if operation.name in fault.left_out
        else Cell(
            fault.name, operation.name, promised(fault.formula, operation, LIMITS).seconds, "", 0.0
        )
        for kind in SERVERS
        for fault in kind(Path(), LIMITS).faults()
        for operation in OPERATIONS.values()
    ]
    shown, expected = command.RECORDED.read_text(), rendered(cells)
    assert recorded_bounds(shown) == recorded_bounds(expected)
    assert list(recorded_bounds(shown)) == FAULTS
    assert shown.splitlines()[:2] == expected.splitlines()[:2]  # the operations
    assert "missed" not in shown
    page = (DOCUMENTS / "explanation/bounds.rst").read_text()
    for key, value in LIMITS.settings().items():
        assert f"{key} = {float(value.split()[0]) * 1000:g} milliseconds" in page


@pytest.mark.parametrize("formula", FORMULAE, ids=lambda formula: formula.name)
def test_the_documents_promise_each_bound(formula: formulae.Formula) -> None:
    page = (DOCUMENTS / f"{formula.page}.rst").read_text()
    assert " ".join(formula.promise.split()) in " ".join(page.split())


def test_a_bound_is_computed_from_the_settings() -> None:
    limits = Limits(connect=3, reply=2, health=1, within=0.5, get=7)
    queue_get = OPERATIONS["queue get"]
    assert promised(formulae.CONNECT, COMMAND, limits).seconds == 3
    assert promised(formulae.REPLY, COMMAND, limits).seconds == 2
    assert promised(formulae.REPLY, queue_get, limits).seconds == 9
    assert promised(formulae.REPLIES, OPERATIONS["pipeline"], limits).seconds == 6
    assert promised(formulae.REPLY, HEALTH, limits) == (1, formulae.PROBE)
    assert promised(formulae.REPLY, WITHIN, limits) == (0.5, formulae.DEADLINE)


@contextmanager
def _nothing(operation: Operation) -> Iterator[App]:
    yield App("redis://127.0.0.1:1/0", LIMITS)


def _sleeping(name: str, seconds: float) -> Operation:
    return Operation(name, lambda app: time.sleep(seconds))


def test_a_call_that_takes_too_long_misses_its_bound() -> None:
    fault = Fault("planted", _nothing, formulae.AT_ONCE, {"left out": "a reason"})
    operations = [_sleeping("kept", 0), _sleeping("missed", 0.4), _sleeping("left out", 9)]
    cells = measured(fault, operations, LIMITS)
    assert [cell.operation for cell in missed(cells)] == ["missed"]
    text = rendered(cells)
    assert "missed: missed with the fault 'planted' took 0.4" in text
    assert "planted: a reason (left out)" in text


@pytest.mark.parametrize(("seconds", "status"), [(0.0, 0), (0.4, 1)])
def test_the_exit_status_shows_a_missed_bound(
    seconds: float, status: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fault = Fault("planted", _nothing, formulae.AT_ONCE)
    monkeypatch.setattr(command, "all_faults", lambda *args: [fault])
    monkeypatch.setattr(command, "OPERATIONS", {"call": _sleeping("call", seconds)})
    monkeypatch.setattr("logging.disable", lambda level: None)
    assert command.main(["--json"]) == status
    (cell,) = map(json.loads, capsys.readouterr().out.splitlines())
    assert (cell["fault"], cell["operation"], cell["missed"]) == ("planted", "call", bool(status))


def test_a_fault_that_does_not_exist_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("logging.disable", lambda level: None)
    monkeypatch.setattr(command, "all_faults", lambda *args: [])
    with pytest.raises(SystemExit) as caught:
        command.main(["--only", "no such fault"])
    assert caught.value.code == 2


def test_a_part_of_the_table_is_not_recorded() -> None:
    with pytest.raises(SystemExit) as caught:
        command.main(["--only", "DNS", "--write"])
    assert caught.value.code == 2


def test_a_recorded_table_shows_the_bounds() -> None:
    cells = [
        Cell("reads slowly, TLS", "a", 0.2, "f", 0.1, "no error"),
        Cell("reads slowly, TLS", "b", reason="r"),
        Cell("reads slowly, TLS", "c", 1.0, "f", 2.0, "no error"),
    ]
    assert recorded_bounds(rendered(cells)) == {"reads slowly, TLS": ["200", "-", "1000"]}
