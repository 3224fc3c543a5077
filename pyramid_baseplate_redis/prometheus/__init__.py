"""baseplate's metrics for Prometheus."""

from __future__ import annotations

from .observer import observe_client

__all__ = ["observe_client"]
