import pytest
from visits import SETTINGS, main
from webtest import TestApp

from pyramid_baseplate_redis import testing

pytest_plugins = ["pyramid_baseplate_redis.testing.fixtures"]


@pytest.fixture
def testapp(empty_redis):
    return TestApp(main({}, **testing.for_tests(SETTINGS)))


def test_visits_are_counted(testapp):
    testapp.get("/")
    assert testapp.get("/").json == {"visits": 2}


def test_a_visit_takes_one_round_trip(testapp, recorded_spans):
    testapp.get("/")
    assert recorded_spans.tree() == [("GET /", None), ("store.pipeline_visit", "GET /")]
