"""Types of predis' arguments."""

from __future__ import annotations

import argparse


def seconds(text: str) -> float:
    """Parse a number of seconds from 0 on.

    :raises argparse.ArgumentTypeError: it is another number.
    """
    value = float(text)
    if not 0 <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds from 0 on")
    return value


def number(text: str) -> int:
    """A whole number from 1 on; raises what argparse expects."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 1 on")
    return value
