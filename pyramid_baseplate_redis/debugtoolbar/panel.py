"""The panel of pyramid_debugtoolbar with a request's Redis operations, and suggestions.

::

    debugtoolbar.includes = pyramid_baseplate_redis.debugtoolbar
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from pyramid_debugtoolbar.panels import DebugPanel

from ..interfaces import IRedisContextFactory
from .advice import advice
from .badge import badge_of
from .quantities import milliseconds
from .recorder import Recorder
from .rendering import template_values
from .settings_panel import RedactedSettingsPanel

if TYPE_CHECKING:
    from pyramid.config import Configurator
    from pyramid.request import Request
    from pyramid.response import Response

    Handler = Callable[[Request], Response]


def includeme(config: Configurator) -> None:
    """Add the panel to the toolbar, and hide secrets in the toolbar's panel of settings.

    :param config: the toolbar's configurator, which includes the modules that the setting
        ``debugtoolbar.includes`` lists.
    """
    config.add_debugtoolbar_panel(RedisDebugPanel)
    config.add_debugtoolbar_panel(RedactedSettingsPanel, is_global=True)


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
        """Red if an operation failed, orange if there are suggestions."""
        recording = self._recorder.recording()
        return badge_of(recording, advice(recording)).style

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
        return template_values(self._recorder.recording())
