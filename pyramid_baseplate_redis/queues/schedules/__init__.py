"""Sorted sets of messages that are not due yet, and the keys of unique messages."""
