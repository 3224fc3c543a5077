"""A panel for pyramid_debugtoolbar."""

from __future__ import annotations

from .panel import includeme

__all__ = ["includeme"]
