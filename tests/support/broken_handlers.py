"""A module with a fault of its own, for the tests of ``predis work``."""

from __future__ import annotations

import missing_module  # type: ignore[import-not-found]  # noqa: F401
