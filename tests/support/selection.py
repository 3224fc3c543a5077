"""A pytest plugin: leaves out slow tests, and gives some tests the machine for themselves.

Three markers, each with a reason:

- ``@pytest.mark.slow(reason)``: the test is only run with ``--slow``.
- ``@pytest.mark.timed(reason)``: the test mostly waits, and measures for how long. At the same time
  the other workers of pytest-xdist only run tests with this marker.
- ``@pytest.mark.alone(reason)``: the test loads the machine, or measures how long something takes
  that needs a processor. No other worker runs a test at the same time.

Other programs can still disturb the last two. One that fails is run twice more (by
pytest-rerunfailures), and fails if it never passes. Runs of pytest at the same time, such as those
of several Pythons, do not disturb them if each is given the same ``--lock``.
"""

from __future__ import annotations

import fcntl
import os
import tempfile
from collections.abc import Iterator
from enum import IntEnum
from typing import Any

import pytest

_MARKERS = ("slow", "timed", "alone")
_LEFT_OUT = pytest.StashKey[int]()
_LOCK = pytest.StashKey[int | None]()
_LOCK_FILE = pytest.StashKey[Any]()
_KEPT = pytest.StashKey[bool]()

# The bytes of the lock file. Each test locks the turnstile first, then the byte of the tests of its
# kind: shared, or both exclusively if it has to be alone. Before that it waits until no test of the
# other kind runs. The turnstile is locked until then, so no test can overtake one that waits. If a
# worker's next test is timed or alone, too, it keeps the lock.
_TURNSTILE, _ORDINARY, _TIMED = 0, 1, 2


class Kind(IntEnum):
    """The tests that may run at the same time, in the order in which they run."""

    ORDINARY = 0
    TIMED = 1
    ALONE = 2


def kind_of(item: pytest.Item) -> Kind:
    if item.get_closest_marker("alone"):
        return Kind.ALONE
    return Kind.TIMED if item.get_closest_marker("timed") else Kind.ORDINARY


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--slow", action="store_true", help="run the tests marked slow, too")
    parser.addoption(
        "--lock",
        metavar="FILE",
        help="tests that are timed or alone wait for all runs with this file",
    )


def pytest_configure(config: pytest.Config) -> None:
    for marker in _MARKERS:
        config.addinivalue_line("markers", f"{marker}(reason): see {__name__}")
    config.stash[_LEFT_OUT] = 0
    config.stash[_KEPT] = False
    worker_input = getattr(config, "workerinput", {})
    path = config.getoption("lock") or worker_input.get("lock")
    # Locked with POSIX locks: a forked child does not inherit them, and a worker that dies loses
    # them.
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
    config.stash[_LOCK] = os.open(path, flags) if path else None


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    for item in items:
        for marker in _MARKERS:
            found = item.get_closest_marker(marker)
            if found and not (len(found.args) == 1 and isinstance(found.args[0], str)):
                raise pytest.UsageError(f"{item.nodeid}: the marker {marker} needs a reason")
        if kind_of(item) is not Kind.ORDINARY:
            item.add_marker(pytest.mark.flaky(reruns=2))
    if config.getoption("slow"):
        return
    slow = [item for item in items if item.get_closest_marker("slow")]
    items[:] = [item for item in items if not item.get_closest_marker("slow")]
    config.stash[_LEFT_OUT] = len(slow)
    config.hook.pytest_deselected(items=slow)


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    left_out = config.stash[_LEFT_OUT]
    if left_out:
        terminalreporter.write_line(f"{left_out} slow tests were left out: run pytest --slow")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item, nextitem: pytest.Item | None) -> Iterator[None]:
    lock, kind = item.config.stash[_LOCK], kind_of(item)
    if lock is None:  # no other workers, and no other runs
        return (yield)  # type: ignore[return-value]
    if not item.config.stash[_KEPT]:
        _take_machine(lock, kind)
    # For each test that has to be alone, all others would have to end first.
    keep = kind is not Kind.ORDINARY and nextitem is not None and kind_of(nextitem) is kind
    item.config.stash[_KEPT] = keep
    try:
        return (yield)  # type: ignore[return-value]
    finally:
        if not keep:
            for byte in (_ORDINARY, _TIMED):
                fcntl.lockf(lock, fcntl.LOCK_UN, 1, byte)


def _take_machine(lock: int, kind: Kind) -> None:
    own, other = (_TIMED, _ORDINARY) if kind is Kind.TIMED else (_ORDINARY, _TIMED)
    alone = kind is Kind.ALONE
    fcntl.lockf(lock, fcntl.LOCK_EX, 1, _TURNSTILE)
    try:
        fcntl.lockf(lock, fcntl.LOCK_EX, 1, other)
        if not alone:
            fcntl.lockf(lock, fcntl.LOCK_UN, 1, other)
        fcntl.lockf(lock, fcntl.LOCK_EX if alone else fcntl.LOCK_SH, 1, own)
    finally:
        fcntl.lockf(lock, fcntl.LOCK_UN, 1, _TURNSTILE)


# Hooks of pytest-xdist, in the process that distributes the tests to its workers.


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    stash = node.config.stash
    if _LOCK_FILE not in stash:
        stash[_LOCK_FILE] = tempfile.NamedTemporaryFile(prefix="pytest-", suffix=".lock")  # noqa: SIM115
    node.workerinput["lock"] = stash[_LOCK_FILE].name


def pytest_sessionfinish(session: pytest.Session) -> None:
    output = getattr(session.config, "workeroutput", None)
    if output is not None:
        output["left_out"] = session.config.stash[_LEFT_OUT]


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    # Each worker collects all tests, and leaves out the same ones.
    left_out = getattr(node, "workeroutput", {}).get("left_out", 0)
    node.config.stash[_LEFT_OUT] = left_out
