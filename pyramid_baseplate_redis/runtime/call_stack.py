"""The application's lines on the call stack, without those of redis-py and other libraries."""

from __future__ import annotations

import os
import sys
import sysconfig
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from types import CodeType
from typing import Any

# The modules whose frames are not the application's: redis-py, and this package, whose name must
# not depend on the place of this module.
_CLIENTS = (f"{__name__.partition('.')[0]}.", "redis.")
_NEVER = (*_CLIENTS, "opentelemetry.")
_INSTALLED = {"dist-packages", "site-packages"}
_STANDARD_LIBRARY = tuple(
    os.path.realpath(path) + os.sep for path in {*map(sysconfig.get_path, ("stdlib", "platstdlib"))}
)
_MOST_FRAMES = 200
MOST_LINES = 5


@dataclass(frozen=True)
class CallingLine:
    """A line of source code."""

    #: The file's path, relative to the working directory or an entry of ``sys.path``.
    path: str
    number: int
    function: str

    def __str__(self) -> str:
        """Return the short form: ``views.py:41 in home``."""
        return f"{os.path.basename(self.path)}:{self.number} in {self.function}"

    @property
    def whole(self) -> str:
        """Return the form with the whole path: ``example_app/views.py:41 in home``."""
        return f"{self.path}:{self.number} in {self.function}"


def calling_lines() -> tuple[CallingLine, ...]:
    """Return the application's calls that led here, innermost first, five at most.

    If all calls are a library's, as in a thread whose target is a method of redis-py, return the
    innermost one outside of redis-py, this package and OpenTelemetry. No source file is read, and
    no frame is kept.
    """
    frame = sys._getframe(1)
    lines: list[CallingLine] = []
    of_library: list[CallingLine] = []
    for _ in range(_MOST_FRAMES):
        code = frame.f_code
        if not f"{frame.f_globals.get('__name__')}.".startswith(_NEVER):
            is_library = _is_library(code.co_filename)
            if not is_library or not of_library:
                line = CallingLine(_shortened(code.co_filename), frame.f_lineno, code.co_name)
                (of_library if is_library else lines).append(line)
        if len(lines) == MOST_LINES or frame.f_back is None:
            break
        frame = frame.f_back
    return tuple(lines or of_library)


@lru_cache(maxsize=1024)
def _is_library(filename: str) -> bool:
    if filename.startswith("<frozen "):
        return True
    if not _INSTALLED.isdisjoint(filename.split(os.sep)):
        return True
    return os.path.realpath(filename).startswith(_STANDARD_LIBRARY)


@lru_cache(maxsize=1024)
def _shortened(filename: str) -> str:
    best = filename
    for root in (os.curdir, *sys.path):
        prefix = os.path.join(os.path.abspath(root), "")
        if filename.startswith(prefix):
            best = min(best, filename[len(prefix) :], key=len)
    return best


Frames = Sequence[tuple[CodeType, int]]


def calling_frames(most: int = 50) -> Frames:
    """Return the calls that led here, innermost first.

    The first one is the innermost outside of redis-py and this package. No source file is read,
    unlike in :func:`traceback.extract_stack`, and no frame, hence no local variable, is kept alive.

    :param most: the maximum number of calls.
    """
    frame = sys._getframe(1)
    frames: list[tuple[CodeType, int]] = []
    while frame is not None and f"{frame.f_globals.get('__name__')}.".startswith(_CLIENTS):
        frame = frame.f_back  # type: ignore[assignment]
    while frame is not None and len(frames) < most:
        frames.append((frame.f_code, frame.f_lineno))
        frame = frame.f_back  # type: ignore[assignment]
    return frames


def place_of(frames: Frames) -> str:
    """Return the innermost call: ``views.py:17 in home``; never an argument or a variable."""
    if not frames:
        return "an unknown place"
    code, line = frames[0]
    return f"{code.co_filename}:{line} in {code.co_name}"


def stack_of(frames: Any) -> str:
    """Return all calls, outermost first, one line each."""
    return "\n".join(
        f"  {code.co_filename}:{line} in {code.co_name}" for code, line in reversed(frames)
    )


def frames_of_thread(thread: int, most: int = 50) -> Frames:
    """Return the calls that a thread is in, innermost first; none if it has ended.

    No source file is read, and no frame is kept.

    :param thread: the thread's identifier, from :func:`threading.get_ident`.
    :param most: the maximum number of calls.
    """
    frame = sys._current_frames().get(thread)
    frames: list[tuple[CodeType, int]] = []
    while frame is not None and len(frames) < most:
        frames.append((frame.f_code, frame.f_lineno))
        frame = frame.f_back
    return frames
