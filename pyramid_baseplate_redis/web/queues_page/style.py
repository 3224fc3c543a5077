"""The style sheet of the queues page."""

from __future__ import annotations

import zlib
from importlib.resources import files

STYLE_SHEET = files(__package__).joinpath("style.css").read_bytes()
#: Part of the style sheet's address, so that browsers can keep it until it changes.
STYLE_VERSION = f"{zlib.crc32(STYLE_SHEET):08x}"
