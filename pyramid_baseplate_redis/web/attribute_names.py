"""Which names a Redis client or a message queue may have, as an attribute of a request."""

from __future__ import annotations

import keyword
from typing import TYPE_CHECKING

from pyramid.request import Request

from ..exceptions import ConfigurationError
from .introspection import REQUEST_CATEGORY

if TYPE_CHECKING:
    from pyramid.config import Configurator

# What the router and its neighbours set on a request; the class itself doesn't have these.
_SET_BY_PYRAMID = {
    "registry", "context", "matchdict", "matched_route", "root", "view_name", "subpath",
    "traversed", "virtual_root", "virtual_root_path", "exception", "exc_info", "request_iface",
    "invoke_subrequest", "tm", "span", "environ", "override_renderer", "wrapped_view",
    "wrapped_body", "wrapped_response", "authdebug_message",
}  # fmt: skip


def check_name(name: str) -> None:
    """Refuse a name that can't be, or already is, an attribute of a request.

    :raises ConfigurationError: since Pyramid would replace the attribute silently.
    """
    problem = problem_of_name(name)
    if problem is not None:
        raise ConfigurationError(
            f"{name}: {problem[0]}{problem[1].format('the Redis client or message queue')}"
        )


def problem_of_name(name: str) -> tuple[str, str] | None:
    """What is wrong with a name, and what to do about it for what is put into the braces."""
    identifier = isinstance(name, str) and name.isidentifier() and name.isascii()
    if not identifier or keyword.iskeyword(name):
        return f"is not a Python identifier, so request.{name} can't be written", ""
    if hasattr(Request, name) or name in _SET_BY_PYRAMID:
        return f"request.{name} is Pyramid's own", "; choose another name for {}"
    return None


def check_attribute(config: Configurator, name: str, key: str, description: str, hint: str) -> None:
    """Refuse a name that the settings declare and the application has for something of its own.

    Pyramid finds no conflict between an action and one that is added while actions run.

    :param key: the setting's.
    :param description: the docstring of this package's request method.
    :param hint: what else to do about it.
    """
    attribute = config.introspector.get(REQUEST_CATEGORY, name)
    # Pyramid wraps what it is given, and keeps the description.
    if attribute is not None and attribute["callable"].__doc__ != description:
        what = hint.partition(" in ")[0].removesuffix("s")
        raise ConfigurationError(
            f"{key}: the application has a request.{name} of its own; choose another name for the "
            f"{what}, or name the {hint}"
        )
