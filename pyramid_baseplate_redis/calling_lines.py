"""Which lines of the application led here, redis-py's and other libraries' left out."""

from __future__ import annotations

import os
import sys
import sysconfig
from dataclasses import dataclass
from functools import lru_cache

_OURS = __name__.rpartition(".")[0]
_NEVER = (f"{_OURS}.", "opentelemetry.", "redis.")
_INSTALLED = {"dist-packages", "site-packages"}
_STANDARD_LIBRARY = tuple(
    os.path.realpath(path) + os.sep for path in {*map(sysconfig.get_path, ("stdlib", "platstdlib"))}
)
_MOST_FRAMES = 200
MOST_LINES = 5


@dataclass(frozen=True)
class CallingLine:
    """A line of source code."""

    #: The file's path, below the working directory or the entry of ``sys.path`` where it is.
    path: str
    number: int
    function: str

    def __str__(self) -> str:
        """``views.py:41 in home``."""
        return f"{os.path.basename(self.path)}:{self.number} in {self.function}"

    @property
    def whole(self) -> str:
        """``example_app/views.py:41 in home``."""
        return f"{self.path}:{self.number} in {self.function}"


def calling_lines() -> tuple[CallingLine, ...]:
    """The application's calls that led here, innermost first, five at most.

    Of libraries alone, as in a thread that was started with a method of redis-py: the innermost
    call that isn't redis-py's, this package's or OpenTelemetry's. No source file is read, and no
    frame is kept.
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
