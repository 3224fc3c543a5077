"""The panel of pyramid_debugtoolbar with a request's Redis operations, and suggestions.

::

    debugtoolbar.includes = pyramid_baseplate_redis.debugtoolbar
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from pyramid_debugtoolbar.panels import DebugPanel

from ..interfaces import IRedisContextFactory
from ..runtime.call_stack import CallingLine
from .advice import advice, is_large, is_slow, milliseconds, size_text
from .recorder import Recorder
from .records import RecordedOperation, Recording, Totals

if TYPE_CHECKING:
    from pyramid.config import Configurator
    from pyramid.request import Request
    from pyramid.response import Response

    Handler = Callable[[Request], Response]

_LABELS = {"many": "many", "slow": "slow", "wait": "waiting", "large": "large"}
_MOST_OPEN = 5  # a pipeline with more commands is shown folded
_WARNING = "progress-bar-warning"


def includeme(config: Configurator) -> None:
    """Add the panel to the toolbar.

    :param config: the toolbar's configurator, which includes the modules that the setting
        ``debugtoolbar.includes`` lists.
    """
    config.add_debugtoolbar_panel(RedisDebugPanel)


class RedisDebugPanel(DebugPanel):
    """Shows the operations of a request's Redis clients.

    Nothing is recorded if the toolbar isn't shown. Operations that run while the body is sent are
    recorded too, and shown when the toolbar's page is loaded again.
    """

    name = "redis"
    title = "Redis"
    nav_title = "Redis"
    template = "pyramid_baseplate_redis:templates/redis.dbtmako"

    def __init__(self, request: Request) -> None:
        self._recorder = Recorder()

    @property
    def has_content(self) -> bool:
        """True if the request used Redis."""
        return bool(self._recorder.recording().clients)

    @property
    def nav_subtitle(self) -> str:
        """The number of commands and their total duration: ``12 in 3.4 ms``."""
        total = self._recorder.recording().total
        return f"{total.commands} in {milliseconds(total.duration)}"

    @property
    def nav_subtitle_style(self) -> str:
        """Red if an operation failed, yellow if there are suggestions."""
        recording = self._recorder.recording()
        if recording.total.errors:
            return "progress-bar-danger"
        return _WARNING if advice(recording) else ""

    def wrap_handler(self, handler: Handler) -> Handler:
        """Record the handler's operations, including exception views and subrequests."""

        def recorded(request: Request) -> Response:
            attributes = request.__dict__
            for name, _ in request.registry.getUtilitiesFor(IRedisContextFactory):
                if name in attributes:  # an outer tween has already made this client
                    attributes[name].observed_by(self._recorder)
            return self._recorder.record(request.environ, lambda: handler(request))

        return recorded

    def render_vars(self, request: Request) -> dict[str, Any]:
        """Return the variables of the template."""
        recording = self._recorder.recording()
        clients = [_totals(name, totals) for name, totals in recording.clients.items()]
        return {
            "advice": [
                {
                    "label": _LABELS[found.kind],
                    "seen": found.seen,
                    **_place(found.lines),
                    "remedy": found.remedy,
                }
                for found in advice(recording)
            ],
            "clients": clients,
            "total": _totals("All", recording.total) if len(clients) > 1 else None,
            "rows": [
                _row(number, operation, recording)
                for number, operation in enumerate(recording.operations, 1)
            ],
            "left_out": recording.left_out,
            "seconds": milliseconds(recording.seconds),
        }


def _totals(name: str, totals: Totals) -> dict[str, Any]:
    return {
        "name": name,
        "operations": totals.operations,
        "commands": totals.commands,
        "duration": milliseconds(totals.duration),
        "waited": milliseconds(totals.waited),
        "size": size_text(totals.size),
        "errors": totals.errors,
    }


def _place(lines: Sequence[CallingLine]) -> dict[str, str]:
    return {
        "line": str(lines[0]) if lines else "an unknown line",
        "lines": "\n".join(line.whole for line in lines),
    }


def _row(number: int, operation: RecordedOperation, recording: Recording) -> dict[str, Any]:
    seconds = recording.seconds or 1.0
    count = len(operation.commands) + operation.left_out
    executed = operation.duration - operation.waited
    is_odd = is_slow(executed) or is_slow(operation.waited) or is_large(operation.size)
    return {
        "number": number,
        "client": operation.client,
        "pipeline": operation.name if operation.is_pipeline else None,
        "count": f"{count} command{'' if count == 1 else 's'}",
        "is_short": count <= _MOST_OPEN,
        "commands": operation.commands,
        "left_out": operation.left_out,
        "error": operation.error,
        "duration": f"{operation.duration * 1000:.2f}",
        "waited": f"{operation.waited * 1000:.2f}" if operation.waited else "",
        "size": size_text(operation.size),
        "bytes": operation.size.bytes,
        **_place(operation.lines),
        "is_after_response": recording.handled is not None and operation.at > recording.handled,
        "style": "danger" if operation.error else "warning" if is_odd else "",
        "left": f"{100 * operation.at / seconds:.2f}",
        "waiting_width": f"{100 * operation.waited / seconds:.2f}",
        "width": f"{100 * executed / seconds:.2f}",
    }
