"""Readiness checks: a view and a function that ask every server, within a time limit."""
