"""The hash tags that many keys of a hunt share, so that their slots are worth moving."""

from __future__ import annotations

TAGS = [f"{{t{number}}}" for number in range(8)]
