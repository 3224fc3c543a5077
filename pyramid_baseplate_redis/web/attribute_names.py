"""Checks of the names that clients and queues get as attributes of the request."""

from __future__ import annotations

import keyword
from typing import TYPE_CHECKING

from pyramid.request import Request

from ..exceptions import ConfigurationError
from .introspection import REQUEST_CATEGORY

if TYPE_CHECKING:
    from pyramid.config import Configurator

# Attributes that Pyramid sets on each request; the class doesn't have them.
_SET_BY_PYRAMID = {
    "registry", "context", "matchdict", "matched_route", "root", "view_name", "subpath",
    "traversed", "virtual_root", "virtual_root_path", "exception", "exc_info", "request_iface",
    "invoke_subrequest", "environ", "override_renderer", "wrapped_view",
    "wrapped_body", "wrapped_response", "authdebug_message",
}  # fmt: skip
_SET_BY_OTHERS = {
    "tm": "pyramid_tm's transaction manager",
    "span": "the request's OpenTelemetry span",
}


def check_name(name: str) -> None:
    """Check that a name can become an attribute of the request.

    :raises ConfigurationError: it is not an identifier, or the request already has an attribute
        of that name, which Pyramid would silently replace.
    """
    problem = problem_of_name(name)
    if problem is not None:
        raise ConfigurationError(
            f"{name}: {problem[0]}{problem[1].format('the Redis client or message queue')}"
        )


def problem_of_name(name: str) -> tuple[str, str] | None:
    """Return what is wrong with a name and what to do; ``None`` if the name can be used.

    The second text may be empty. Otherwise it has a placeholder ``{}`` for the kind of the object.
    """
    if not isinstance(name, str) or not name.isidentifier() or not name.isascii():
        return f"{name!r} is not a Python identifier, so request.{name} can't be written", ""
    another = "; choose another name for {}"
    if keyword.iskeyword(name):
        return f"{name} is a keyword of Python, so request.{name} can't be written", another
    if name in _SET_BY_OTHERS:
        return f"request.{name} is {_SET_BY_OTHERS[name]}", another
    if hasattr(Request, name) or name in _SET_BY_PYRAMID:
        return f"request.{name} is Pyramid's own", another
    return None


def check_attribute(config: Configurator, name: str, key: str, description: str, hint: str) -> None:
    """Check that the application doesn't define the attribute of a discovered client or queue.

    Pyramid detects no conflict between an action and one that is added while actions run. This
    runs after both.

    :param key: the setting that declares the client or queue.
    :param description: the docstring of this package's request method, which identifies it.
    :param hint: the setting to use instead: ``Redis clients in baseplate_redis.clients``.
    :raises ConfigurationError: the application defines the attribute.
    """
    attribute = config.introspector.get(REQUEST_CATEGORY, name)
    # Pyramid wraps the method, so compare its docstring, which the wrapper keeps.
    if attribute is not None and attribute["callable"].__doc__ != description:
        what = hint.partition(" in ")[0].removesuffix("s")
        raise ConfigurationError(
            f"{key}: the application already defines request.{name}; choose another name for the "
            f"{what}, or list the {hint}"
        )
