"""``predis work``: process the messages of a durable queue until a signal ends it."""

from __future__ import annotations

import argparse
import importlib
import logging
import os
import sys
import threading
from collections.abc import Sequence
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
        help="called with a request and a message",
    )
    parser.add_argument(
        "--concurrency",
        metavar="N",
        type=number,
        default=1,
        help="how many threads each process has (1)",
    )
    parser.add_argument(
        "--processes", metavar="N", type=number, default=1, help="how many processes (1)"
    )
    parser.add_argument(
        "--prefetch",
        metavar="N",
        type=number,
        help="the most messages that a process receives at once; 1 receives and acknowledges each "
        "by itself (two for each thread)",
    )
    parser.add_argument(
        "--grace",
        metavar="SECONDS",
        type=seconds,
        default=30.0,
        help="after a signal, how long to wait for messages that are being handled (30)",
    )
    parser.add_argument(
        "--with-context",
        action="store_true",
        help="call the handler with a context in place of a request, without a transaction",
    )
    parser.add_argument("--parent-pipe", type=int, help=argparse.SUPPRESS)
    parser.add_argument(
        "--reload",
        action=argparse.BooleanOptionalAction,
        default=False,
        help="for development: start again when a module or the .ini file has changed",
    )
    return [parser]


def run(application: Application, arguments: argparse.Namespace, output: Output) -> int:
    """Process messages; the status is that of :func:`.worker.work`."""
    from ..worker import work
    from ..worker.handlers import check_handler
    from ..worker.processes import run_processes, stop_with_parent

    _log_to_standard_error(arguments.config_uri)
    handler = handler_of(arguments.handler)
    application.check_queue(arguments.name)
    try:
        if arguments.processes > 1:
            check_handler(arguments.name, handler, with_context=arguments.with_context)
            return run_processes(
                arguments.name, _command_of_one(arguments.argv), arguments.processes
            )
        stop = threading.Event()
        if arguments.parent_pipe is not None:
            stop_with_parent(arguments.parent_pipe, stop)
        return work(
            application.registry,
            arguments.name,
            handler,
            with_context=arguments.with_context,
            concurrency=arguments.concurrency,
            prefetch=arguments.prefetch,
            grace=arguments.grace,
            stop=stop,
        )
    except ConfigurationError as error:
        message = str(error)
    raise CommandError(message, 2)


def watched(config_uri: str, argv: Sequence[str]) -> int | None:
    """Run this command in a process that starts again when a module or the .ini file has changed.

    :param argv: the command's arguments.
    :returns: the exit status; ``None`` in that process, which goes on.
    """
    import hupper  # Pyramid needs it

    if not hupper.is_active():
        status: int | None = hupper.start_reloader(
            "pyramid_baseplate_redis.cli.main.main", worker_args=[list(argv)], shutdown_interval=5
        )
        return status or 0
    path = plaster.parse_uri(config_uri).path
    hupper.get_reloader().watch_files([os.path.abspath(path)])
    return None


def _log_to_standard_error(config_uri: str) -> None:
    """Log to standard error, unless the .ini file configures logging."""
    if "loggers" not in plaster.get_sections(config_uri):
        # Python shows warnings then; a worker has a line for each message.
        logging.basicConfig(level=logging.INFO, format=_FORMAT, force=True)


def _command_of_one(argv: Sequence[str]) -> list[str]:
    """Return the command line of a worker with one process, whose parent has the reloader.

    :param argv: the arguments of the parent.
    """
    program = [sys.executable, "-m", "pyramid_baseplate_redis.cli"]
    return [*program, *argv, "--processes", "1", "--no-reload"]


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
