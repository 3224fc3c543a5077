"""What holds for all tests of this folder: a deadlock ends them, and says where it is."""

from __future__ import annotations

from ..faults.conftest import no_deadlock

__all__ = ["no_deadlock"]
