"""A claim that one caller at a time has, without a lock."""

from __future__ import annotations

import os
import weakref


class Claim:
    """Token of the one caller that has the claim; the claim ends when its holder drops this."""

    __slots__ = ("__weakref__",)


class Claims:
    """Gives a claim to one caller of the process at a time.

    A signal handler, a greenlet kill or a finalizer may interrupt the holder at any line: its claim
    ends with the last reference to it.
    """

    def __init__(self) -> None:
        # By process: after a fork, the child never drops what other threads of the parent held. The
        # first one is the real one; the others are those of callers that came too late.
        self._claims: dict[int, dict[weakref.ref[Claim], None]] = {}

    def take(self) -> Claim | None:
        """Return the claim, or ``None`` if another caller has it."""
        claims = self._claims.setdefault(os.getpid(), {})
        if claims:
            return None
        claim = Claim()
        # One statement: if an exception came in between, the callback would not find its key. The
        # callback is the dictionary's own method, which is atomic.
        claims[mine := weakref.ref(claim, claims.pop)] = None
        return claim if list(claims)[0] is mine else None  # noqa: RUF015  # atomic, unlike tuple()
