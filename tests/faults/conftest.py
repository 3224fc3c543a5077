"""What holds for all tests of this folder: a deadlock ends them, and says where it is."""

from __future__ import annotations

import faulthandler
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def no_deadlock() -> Iterator[None]:
    faulthandler.dump_traceback_later(150, exit=True)  # nothing else ends one
    yield
    faulthandler.cancel_dump_traceback_later()
