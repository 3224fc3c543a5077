"""The color of the tab's badge, and the reason for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .advice import Advice
from .quantities import counted
from .records import Recording

_REASONS = {
    "many": "many operations from one line",
    "slow": "a slow operation",
    "waiting": "a long wait for a connection",
    "large": "a large reply",
}


@dataclass(frozen=True)
class Badge:
    """The color of the badge as a CSS class of the toolbar, and a sentence that says why."""

    style: str = ""
    reason: str = ""


def badge_of(recording: Recording, found: Sequence[Advice]) -> Badge:
    """Return a red badge if an operation failed, an orange one if there are suggestions.

    :param found: the suggestions for the recording.
    """
    errors = recording.total.errors
    if errors:
        reason = f"The badge is red because {counted(errors, 'operation')} failed."
        return Badge("progress-bar-danger", reason)
    marks = {each.mark for each in found}
    if marks:
        *others, last = (reason for mark, reason in _REASONS.items() if mark in marks)
        reasons = f"{', '.join(others)} and {last}" if others else last
        return Badge("progress-bar-warning", f"The badge is orange because of {reasons}.")
    return Badge()
