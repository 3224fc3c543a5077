"""Readiness: a view and a function that ask every server in bounded time."""
