"""Run the snippets of the pages: ``pytest docs``.

- A Python snippet is executed. It can use the names of the page's earlier snippets, and ``config``,
  ``make_config``, ``request``, ``make_request`` and ``registry`` from here.
- The settings of an .ini snippet are parsed.
- JSON and YAML snippets are parsed.

A comment ``.. invisible-code-block: python`` prepares what a snippet needs, and ``.. skip: next``
skips one and says why. Shell commands are not run here: they install packages or start servers.
"""

from __future__ import annotations

import configparser
import json
import os
import sys
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import yaml
from pyramid.config import Configurator
from sybil import Example, Sybil
from sybil.parsers.rest import CodeBlockParser, PythonCodeBlockParser, SkipParser
from transaction import TransactionManager

from pyramid_baseplate_redis import testing
from pyramid_baseplate_redis.settings.client import ClientSettings
from pyramid_baseplate_redis.settings.package import PackageSettings
from pyramid_baseplate_redis.settings.queue import QUEUE_SETTINGS, QueueSettings

SETTINGS = {"foo.url": "redis://localhost:6379/0", "jobs.queue": "foo"}
CONFIG_FILE = """\
[app:main]
use = call:myapp:main
foo.url = embedded://
jobs.queue = foo
"""
APPLICATION = """\
from pyramid.config import Configurator


def main(global_config, **settings):
    with Configurator(settings=settings) as config:
        config.include("pyramid_baseplate_redis")
    return config.make_wsgi_app()
"""


def set_up(namespace: dict[str, Any]) -> None:
    """Prepare the names that the snippets of a page use."""
    stack = namespace["stack"] = ExitStack()
    directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
    (directory / "production.ini").write_text(CONFIG_FILE)
    (directory / "myapp.py").write_text(APPLICATION)
    stack.callback(os.chdir, Path.cwd())
    os.chdir(directory)
    sys.path.insert(0, str(directory))
    stack.callback(sys.path.remove, str(directory))
    stack.callback(sys.modules.pop, "myapp", None)
    testing.flush()

    def make_request(**settings: str) -> Any:
        """Make a request of an application with further settings, such as ``jobs__durable``."""
        dotted = {key.replace("__", "."): value for key, value in settings.items()}
        request = stack.enter_context(testing.dummy_request(application({**SETTINGS, **dotted})))
        request.tm = TransactionManager(explicit=True)  # pyramid_tm has one for real requests only
        request.tm.begin()
        return request

    namespace["make_request"] = make_request
    namespace["make_config"] = make_config
    namespace["request"] = make_request()
    namespace["registry"] = namespace["request"].registry
    namespace["config"] = make_config()


def make_config() -> Configurator:
    """Make the Configurator of an application that declares a client."""
    config = Configurator(settings=testing.for_tests({"foo.url": SETTINGS["foo.url"]}))
    config.include("pyramid_baseplate_redis")
    return config


def application(settings: dict[str, str]) -> Any:
    """Make a WSGI application with the package."""
    with Configurator(settings=testing.for_tests(settings)) as config:
        config.include("pyramid_baseplate_redis")
    return config.make_wsgi_app()


def tear_down(namespace: dict[str, Any]) -> None:
    """Close what :func:`set_up` opened."""
    namespace["stack"].close()


def check_settings(example: Example) -> None:
    """Parse the settings of an .ini snippet, as the package does when an application is built."""
    text = example.parsed if example.parsed.startswith("[") else f"[app:main]\n{example.parsed}"
    parser = configparser.ConfigParser(strict=False)
    parser.optionxform = str  # type: ignore[assignment, method-assign]
    parser.read_string(text)
    for section in parser.sections():
        values = dict(parser[section])
        prefixes = {key.partition(".")[0] for key in values if "." in key}
        for prefix in prefixes - {"pyramid", "debugtoolbar", "baseplate_redis"}:
            keys = {key.partition(".")[2] for key in values if key.startswith(f"{prefix}.")}
            if keys <= QUEUE_SETTINGS.keys():
                durable = {f"{prefix}.durable": "true"} if keys - {"queue"} else {}
                QueueSettings.from_config({**values, **durable}, prefix, {})
            else:
                url = (
                    {} if keys & {"url", "url_env", "url_file"} else {f"{prefix}.url": "redis://h"}
                )
                ClientSettings.from_config({**values, **url}, f"{prefix}.", lambda *_: "redis://h")
        PackageSettings.from_config(values)


def parsed_by(parse: Callable[[str], object]) -> Callable[[Example], None]:
    """Return an evaluator that parses a snippet."""

    def check(example: Example) -> None:
        parse(example.parsed)

    return check


pytest_collect_file = Sybil(
    parsers=[
        PythonCodeBlockParser(),
        CodeBlockParser("ini", check_settings),
        CodeBlockParser("json", parsed_by(json.loads)),
        CodeBlockParser("yaml", parsed_by(yaml.safe_load)),
        SkipParser(),
    ],
    patterns=["*.rst"],
    # tests/documents/test_testing_guide.py runs this page.
    excludes=["guides/testing.rst"],
    setup=set_up,
    teardown=tear_down,
).pytest()
