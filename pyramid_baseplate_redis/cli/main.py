"""The command ``predis``: its parser, the choice of a command, and the exit status."""

from __future__ import annotations

import argparse
import contextlib
import importlib
import importlib.util
import os
import sys
from collections.abc import Sequence
from typing import Any

from .. import __version__
from ..telemetry.otel import suppressed

_COMMANDS = ("check", "queue", "hotkeys", "top", "work")
_INTERRUPTED = 130  # as shells have it


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``predis``.

    :param argv: the arguments; by default those of the process.
    :returns: the exit status: 0; 1 if a server failed or a queue was empty; 2 if the arguments or
        the application's settings are wrong; 3 if a worker gave messages back.
    """
    if importlib.util.find_spec("rich") is None:
        return _failed("needs rich: pip install 'pyramid_baseplate_redis[cli]'", 2)
    arguments = _parsed(argv)
    if getattr(arguments, "reload", False):
        from .work import watched

        status = watched(arguments.config_uri, arguments.argv)
        if status is not None:
            return status
    if arguments.is_application:
        return _run(arguments, sys.stdout)
    # What the application prints isn't the command's result.
    standard_output = sys.stdout
    # A command here is no work of the application: it has no spans.
    try:
        with suppressed(), contextlib.redirect_stdout(sys.stderr):
            return _run(arguments, standard_output)
    except BrokenPipeError:
        # The reader has closed the pipe; Python would complain when it flushes at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), standard_output.fileno())
        return 1
    except KeyboardInterrupt:
        return _INTERRUPTED


def _run(arguments: argparse.Namespace, standard_output: Any) -> int:
    from ..exceptions import SERVER_ERRORS
    from .application import CommandError, loaded
    from .output import Output, printable
    from .servers import explained

    if hasattr(standard_output, "reconfigure"):
        standard_output.reconfigure(errors="backslashreplace")
    try:
        with loaded(
            arguments.config_uri, arguments.config_vars, samples_keys=arguments.is_application
        ) as application:
            output = Output(standard_output, getattr(arguments, "json", False))
            status: int = arguments.run(application, arguments, output)
            return status
    except CommandError as error:
        message, status = str(error), error.status
    except SERVER_ERRORS as error:
        message, status = explained(error), 1
    return _failed(printable(message), status)


def _failed(message: str, status: int) -> int:
    sys.stderr.write(f"predis: {message}\n")
    return status


def _parsed(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = _parser()
    arguments, others = parser.parse_known_args(argv)
    # argparse takes what may be missing from one place only, before the options or after them.
    unknown = [other for other in others if other.startswith("-") or "=" not in other]
    if unknown:
        parser.error(f"unrecognized arguments: {' '.join(unknown)}")
    ids = getattr(arguments, "ids", [])  # argparse gives all positional arguments to the first "*"
    variables = [each for each in ids if "=" in each]
    arguments.config_vars = [*arguments.config_vars, *others, *variables]
    arguments.ids = [each for each in ids if "=" not in each]
    arguments.argv = sys.argv[1:] if argv is None else list(argv)
    return arguments


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="predis", description="Look at the Redis clients of a Pyramid application."
    )
    parser.add_argument("--version", action="version", version=f"predis {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    for name in _COMMANDS:
        module: Any = importlib.import_module(f".{name}", __package__)
        command = commands.add_parser(name, help=module.HELP, description=module.HELP)
        command.set_defaults(
            run=module.run, is_application=getattr(module, "IS_APPLICATION", False)
        )
        command.add_argument(
            "config_uri",
            metavar="config.ini[#app]",
            help="the application's .ini file; #app is another application in it than main",
        )
        for last in module.add_arguments(command):
            if name != "work":
                last.add_argument("--json", action="store_true", help="for machines: JSON")
            last.add_argument(
                "config_vars",
                metavar="name=value",
                nargs="*",
                default=[],  # otherwise argparse lists it among the missing arguments
                help="what the .ini file needs, such as http_port=8080 for %%(http_port)s",
            )
    return parser
