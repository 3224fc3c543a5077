"""The application of docs/guides/trace_backends."""

from __future__ import annotations

from typing import Any

import pytest

from .shop_page import FILES


@pytest.fixture
def shop(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(FILES)
    import shop  # type: ignore[import-not-found]

    return shop
