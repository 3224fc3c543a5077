"""The testing kit as pytest fixtures, for projects that list this module in ``pytest_plugins``.

Not an entry point: that would load Pyramid and OpenTelemetry in every run of pytest in an
environment, and before a project's coverage begins.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from .application import flush

if TYPE_CHECKING:
    from .spans import RecordedSpans


@pytest.fixture
def empty_redis() -> Iterator[None]:
    """Empty the servers before and after the test; see :func:`.testing.application.flush`."""
    flush()
    yield
    flush()


@pytest.fixture
def recorded_spans() -> Iterator[RecordedSpans]:
    """The spans that the test records; see :class:`.testing.spans.RecordedSpans`."""
    # Here, not above: who uses the other fixture alone needs no OpenTelemetry SDK.
    from .spans import record_spans

    with record_spans() as spans:
        yield spans
