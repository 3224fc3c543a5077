"""The application that ``predis`` looks at, loaded as Pyramid's p-scripts load theirs."""

from __future__ import annotations

import configparser
import importlib.util
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from opentelemetry.trace import INVALID_SPAN
from plaster.exceptions import MultipleLoadersFound, PlasterError
from pyramid.exceptions import ConfigurationError, ConfigurationExecutionError
from pyramid.paster import bootstrap, setup_logging
from pyramid.scripts.common import parse_vars

from ..interfaces import IMessageQueueFactory, IRedisContextFactory
from ..server_context import ServerContext


class CommandError(Exception):
    """Why a command ends here: one line for standard error.

    :param status: the command's exit status: 1 if it failed, 2 if it was asked for wrongly.
    """

    def __init__(self, message: str, status: int = 1) -> None:
        super().__init__(message)
        self.status = status


class Application:
    """The clients and the queues of an application."""

    def __init__(self, registry: Any, context: ServerContext) -> None:
        self.registry = registry
        self._context = context

    def factories(self) -> dict[str, Any]:
        """The factories of all clients, by name."""
        return dict(sorted(self.registry.getUtilitiesFor(IRedisContextFactory)))

    def factory(self, name: str) -> Any:
        """The factory of a client.

        :raises CommandError: if there is no such client.
        """
        return self._found("Redis client", name, self.factories())

    def client(self, name: str) -> Any:
        """A client, as a request has it.

        :raises CommandError: if there is no such client.
        """
        self.factory(name)
        return getattr(self._context, name)

    def queue_factories(self) -> dict[str, Any]:
        """The factories of all message queues that the application declares, by name."""
        return dict(sorted(self.registry.getUtilitiesFor(IMessageQueueFactory)))

    def queue(self, name: str, client: str | None = None) -> Any:
        """A message queue.

        :param client: the client that has the list ``name``, if the application does not declare
            a queue of that name.
        :raises CommandError: there is no such queue or client, or the application declares the
            queue, but not as a list of this client.
        """
        declared = self.queue_factories()
        if client is None:
            hint = "; --client names the client of a queue that the application doesn't declare"
            self._found("message queue", name, declared, hint)
            return getattr(self._context, name)
        found = self.client(client).message_queue(name)
        factory = declared.get(name)
        if factory is not None and (factory.settings.durable or factory.client != client):
            kind = "durable queue" if factory.settings.durable else "queue"
            raise CommandError(
                f"{name}: the application declares a {kind} of this name on the client "
                f"{factory.client}, and --client {client} would use another one. Leave out "
                "--client",
                status=2,
            )
        return found

    def check_queue(self, name: str) -> None:
        """See to it that the application declares a message queue.

        :raises CommandError: if it doesn't.
        """
        self._found("message queue", name, self.queue_factories())

    @staticmethod
    def _found(what: str, name: str, known: dict[str, Any], hint: str = "") -> Any:
        if name not in known:
            configured = ", ".join(known) or "none"
            message = f"there is no {what} {name!r}; configured: {configured}{hint}"
            raise CommandError(message, status=2)
        return known[name]


@contextmanager
def loaded(
    config_uri: str, config_vars: Sequence[str] = (), samples_keys: bool = False
) -> Iterator[Application]:
    """Load an application, with its logging set up.

    :param config_uri: the ``.ini`` file, followed by ``#name`` for another application than
        ``main``.
    :param config_vars: what the file needs, such as ``http_port=8080``.
    :param samples_keys: whether the clients sample hot keys, as the settings say. Otherwise they
        don't: the keys that a command asks for are not the application's traffic.
    :raises CommandError: if the file can't be read or a setting is wrong. An error of the
        application's own code is raised as it is.
    """
    env = _bootstrap(config_uri, config_vars)
    context = ServerContext(env["registry"], INVALID_SPAN)
    application = Application(env["registry"], context)
    if not samples_keys:
        for factory in application.factories().values():
            tracker = getattr(factory.connection_pool, "hot_keys", None)
            if tracker is not None:
                tracker.stop()
    try:
        yield application
    finally:
        context.give_back()
        env["closer"]()


def _bootstrap(config_uri: str, config_vars: Sequence[str]) -> Any:
    try:
        options = parse_vars(config_vars)
    except ValueError:
        # Pyramid's own message quotes it.
        raise CommandError("options after the .ini file are written name=value", 2) from None
    options.setdefault("__script__", "predis")
    try:
        setup_logging(config_uri, options)
        return bootstrap(config_uri, options=options)
    except ConfigurationExecutionError as error:
        if not isinstance(error.evalue, ConfigurationError):
            raise
        message = str(error.evalue)
    except ConfigurationError as error:
        message = str(error)
    except configparser.Error as error:
        message = f"{config_uri}: {_malformed(error)}"
    except PlasterError as error:
        message = f"{config_uri}: {_unloadable(error)}"
    except OSError as error:
        if not str(error.filename).endswith(config_uri.partition("#")[0]):
            raise
        message = f"{config_uri}: {error.strerror}"
    except LookupError as error:
        if not str(error.args[0] if error.args else "").startswith("No section"):
            raise
        message = f"{config_uri}: the file has no application of this name"
    # Raised out here: what was caught may quote a password of the file.
    raise CommandError(message, 2)


def _unloadable(error: PlasterError) -> str:
    """Describe why plaster has no loader for a file."""
    if importlib.util.find_spec("plaster_pastedeploy") is None:
        return (
            "the loader of .ini files is not installed. "
            "Run pip install 'pyramid_baseplate_redis[cli]'"
        )
    if isinstance(error, MultipleLoadersFound):
        names = ", ".join(sorted(loader.scheme for loader in error.loaders))
        return (
            f"several loaders take this kind of file: {names}. Write one of them before the name, "
            f"as in {error.loaders[0].scheme}://app.ini"
        )
    return "no loader takes this kind of file. Write the name of an .ini file"


def _malformed(error: configparser.Error) -> str:
    """Describe an error in an .ini file without quoting the line: it may have a password."""
    if isinstance(error, configparser.InterpolationMissingOptionError):
        return f"[{error.section}] {error.option}: refers to a %(name)s that is not defined"
    if isinstance(error, configparser.InterpolationError):
        return f"[{error.section}] {error.option}: has a single %. Write %%"
    if isinstance(error, configparser.MissingSectionHeaderError):
        return f"line {error.lineno}: is outside of any [section]"
    if isinstance(error, configparser.ParsingError):
        lines = ", ".join(str(number) for number, _ in error.errors)
        return f"line {lines}: is not written name = value"
    if isinstance(error, (configparser.DuplicateOptionError, configparser.DuplicateSectionError)):
        return f"line {error.lineno}: is a duplicate"
    return f"is malformed ({type(error).__name__})"
