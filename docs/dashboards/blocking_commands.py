"""The commands that wait on purpose, so that their duration says nothing about the server."""

from __future__ import annotations

#: A regular expression. The queues use BLPOP and XREADGROUP. XREAD and XREADGROUP wait only with
#: BLOCK, which no label shows.
BLOCKING = "|".join(
    (
        "BLMOVE", "BLMOVEM", "BLMPOP", "BLPOP", "BRPOP", "BRPOPLPUSH", "BZMPOP", "BZPOPMAX",
        "BZPOPMIN", "WAIT", "WAITAOF", "XREAD", "XREADGROUP",
    )
)  # fmt: skip
