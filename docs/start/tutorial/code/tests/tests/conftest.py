"""The application of the tests, on embedded servers and a database of its own."""

from pathlib import Path

import pytest
from board import main
from pyramid.paster import get_appsettings
from pyramid.scripting import prepare
from webtest import TestApp

from pyramid_baseplate_redis import testing

pytest_plugins = ["pyramid_baseplate_redis.testing.fixtures"]

INI = Path(__file__).parents[1] / "development.ini"


@pytest.fixture
def app(tmp_path, empty_redis):
    settings = get_appsettings(str(INI))
    settings["sqlalchemy.url"] = f"sqlite:///{tmp_path}/board.sqlite"
    settings["baseplate_redis.print_spans"] = "false"
    return main({}, **testing.for_tests(settings))


@pytest.fixture
def testapp(app):
    return TestApp(app)


@pytest.fixture
def request_of_worker(app):
    with prepare(registry=app.registry) as env, env["request"].tm:
        yield env["request"]
