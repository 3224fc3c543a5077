"""The testing kit as pytest fixtures, for projects that list this module in ``pytest_plugins``.

The module is not an entry point of pytest: that would load Pyramid and OpenTelemetry in every run
of pytest in an environment, and before the measuring of coverage begins.
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
    """Record the spans of the test; see :class:`.testing.spans.RecordedSpans`."""
    # Imported here because a project that uses only the other fixture needs no OpenTelemetry SDK.
    from .spans import record_spans

    with record_spans() as spans:
        yield spans
