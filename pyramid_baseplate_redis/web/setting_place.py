"""The place of an error in the settings, which Pyramid prints at the end of its error."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from pyramid.interfaces import IActionInfo
from zope.interface import implementer

from ..exceptions import ConfigurationError

if TYPE_CHECKING:
    from pyramid.config import Configurator


@implementer(IActionInfo)
class SettingPlace:
    """Pyramid's information about an action that reads settings.

    Pyramid knows the line of code that added an action. It knows none for the clients and queues
    that are found in the settings, and would print ``Line 0 of file None``.

    :param info: the information that Pyramid has.
    :param place: the setting that led to the action; an error replaces it.
    """

    def __init__(self, info: Any, place: str) -> None:
        self.file, self.line, self.src = info.file, info.line, info.src
        self.function = info.function
        self._code = str(info).rstrip() if info.file else ""
        self.place = place

    def __str__(self) -> str:
        return "\n  ".join(text for text in (self._code, self.place) if text)


def settings_action(
    config: Configurator,
    discriminator: Any,
    action: Callable[[], None],
    *,
    place: str = "",
    **options: Any,
) -> None:
    """Add an action that reads settings; if it fails, Pyramid's error ends with the setting's key.

    The traceback ends at the action: the frames that read the settings don't help the reader, and
    their variables may be secrets.

    :param place: the setting that led to the action, as introspection shows it.
    :param options: see :meth:`pyramid.config.Configurator.action`.
    """
    info = SettingPlace(config.action_info, place)

    def run() -> None:
        try:
            action()
        except ConfigurationError as error:
            info.place = str(error).partition(": ")[0]
            raise error.with_traceback(None) from error.__cause__

    before, config.info = config.info, info
    try:
        config.action(discriminator, run, **options)
    finally:
        config.info = before
