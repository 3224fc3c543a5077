"""``predis work``: process the messages of a durable queue until a signal ends it."""

from __future__ import annotations

import argparse
import importlib
import logging
from functools import reduce
from typing import Any

import plaster

from ..exceptions import ConfigurationError
from .application import Application, CommandError
from .arguments import number, seconds
from .output import Output

HELP = "process the messages of a durable queue until SIGTERM"
# What it does is the application's work: with spans, and with what the application prints.
IS_APPLICATION = True
_FORMAT = "%(asctime)s %(levelname)-5.5s [%(name)s][%(threadName)s] %(message)s"


def add_arguments(parser: argparse.ArgumentParser) -> list[argparse.ArgumentParser]:
    """Add the command's own; returns the parser that is to have the common ones."""
    parser.add_argument("name", metavar="NAME", help="the durable queue, request.NAME")
    parser.add_argument(
        "handler",
        metavar="MODULE:FUNCTION",
        help="called with the context, which has what a request has, and with each message",
    )
    parser.add_argument(
        "--concurrency", metavar="N", type=number, default=1, help="how many threads (1)"
    )
    parser.add_argument(
        "--grace",
        metavar="SECONDS",
        type=seconds,
        default=30.0,
        help="after a signal, how long to wait for messages that are being handled (30)",
    )
    return [parser]


def run(application: Application, arguments: argparse.Namespace, output: Output) -> int:
    """Process messages; the status is that of :func:`.worker.work`."""
    from ..worker import work

    handler = handler_of(arguments.handler)
    application.check_queue(arguments.name)
    if "loggers" not in plaster.get_sections(arguments.config_uri):
        # Python shows warnings then; a worker has a line for each message.
        logging.basicConfig(level=logging.INFO, format=_FORMAT, force=True)
    try:
        return work(
            application.registry,
            arguments.name,
            handler,
            concurrency=arguments.concurrency,
            grace=arguments.grace,
        )
    except ConfigurationError as error:
        message = str(error)
    raise CommandError(message, 2)


def handler_of(name: str) -> Any:
    """Import the function that a name such as ``myapp.jobs:handle`` stands for.

    :raises CommandError: if there is none. An error of its module is raised as it is.
    """
    module_name, _, attributes = name.partition(":")
    if not module_name or not attributes:
        raise CommandError(f"{name}: a handler is written module:function", 2)
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        # Not one that the module itself misses.
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            raise
        raise CommandError(f"{name}: there is no module {error.name}", 2) from None
    try:
        found = reduce(getattr, attributes.split("."), module)
    except AttributeError:
        raise CommandError(f"{name}: {module_name} has no {attributes}", 2) from None
    if not callable(found):
        raise CommandError(f"{name}: can't be called", 2)
    return found
