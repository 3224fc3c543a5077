"""Import the code of a recipe as a module of the application ``myapp``, and read its settings."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator
from configparser import ConfigParser
from pathlib import Path
from types import ModuleType

import pytest
from pyramid.config import Configurator

from pyramid_baseplate_redis.testing import for_tests
from pyramid_baseplate_redis.testing.fixtures import empty_redis, recorded_spans
from tests.support.servers import Server, running_server

__all__ = ["empty_redis", "recorded_spans"]  # the fixtures that a reader has

CODE = Path(__file__).parents[3] / "docs/recipes/code"

Recipe = Callable[[str], ModuleType]
Configure = Callable[..., Configurator]


@pytest.fixture
def recipe(monkeypatch: pytest.MonkeyPatch) -> Iterator[Recipe]:
    """Import the module of a recipe, which is new in each test."""
    package = ModuleType("myapp")
    package.__path__ = [str(CODE)]
    monkeypatch.setitem(sys.modules, "myapp", package)
    yield lambda name: importlib.import_module(f"myapp.{name}")
    for name in [name for name in sys.modules if name.startswith("myapp.")]:
        del sys.modules[name]


@pytest.fixture
def configure(recipe: Recipe) -> Configure:
    """Make a Configurator with the settings of a recipe's .ini file.

    The application's servers are embedded ones, unless ``changed`` has another URL. Commands to
    embedded servers have more time than in the file: a busy machine may not be the reason for a
    failure.
    """

    def configure(name: str, changed: dict[str, str] | None = None) -> Configurator:
        recipe(name)
        parser = ConfigParser()
        assert parser.read(CODE / f"{name}.ini"), name
        settings = dict(parser["app:main"])
        if changed is None:
            for key, value in settings.items():
                settings[key] = value.replace("00 milliseconds", "0 seconds")
            return Configurator(settings=for_tests(settings))
        return Configurator(settings={**settings, **changed})

    return configure


@pytest.fixture
def own_server(tmp_path: Path) -> Iterator[Server]:
    """A server that the test may stop."""
    with running_server("valkey", tmp_path) as server:
        yield server
