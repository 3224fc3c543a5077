"""Jobs for a background worker; it imports them by name."""

from __future__ import annotations


def add(left: int, right: int) -> int:
    return left + right


def fail() -> None:
    raise ValueError("this job fails")
