"""Metrics for Prometheus, with the names and labels of baseplate."""

from __future__ import annotations

from .observer import observe_client

__all__ = ["observe_client"]
