"""The recipe for caching: dogpile.cache on a client of the application."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import redis
from dogpile.cache import make_region
from dogpile.cache.api import NO_VALUE
from pyramid.config import Configurator
from pyramid.request import Request
from webtest import TestApp

from pyramid_baseplate_redis import CircuitOpenError, MonitoredRedisConnection
from pyramid_baseplate_redis.testing import plain_client
from pyramid_baseplate_redis.testing.spans import RecordedSpans
from tests.support.servers import MakeClient, Server, wait_until
from tests.support.topologies import Cluster

from .conftest import Configure, Recipe


class Articles:
    """Articles that are slow to load."""

    def __init__(self, recipe: Recipe) -> None:
        self.views = recipe("caching_views")
        self.region = recipe("caching").region
        self.loads = 0
        self.title = "Pyramids"
        self.on_load: Callable[[], object] = lambda: None

    def load(self, number: str) -> dict[str, str]:
        self.loads += 1
        self.on_load()
        return {"number": number, "title": self.title}

    def store(self, number: str, title: str) -> None:
        self.title = title


@pytest.fixture
def articles(recipe: Recipe) -> Articles:
    return Articles(recipe)


def serve(config: Configurator, articles: Articles, *more: Any) -> TestApp:
    config.add_request_method(lambda request: articles, "articles", property=True)
    for view in (articles.views.article, articles.views.change, *more):
        config.add_route(view.__name__, f"/{view.__name__}/{{number}}")
        config.add_view(view, route_name=view.__name__, renderer="json")
    return TestApp(config.make_wsgi_app())


@pytest.fixture
def testapp(configure: Configure, articles: Articles, empty_redis: None) -> TestApp:
    return serve(configure("caching"), articles)


# example
def test_a_cached_article_takes_one_round_trip(
    testapp: TestApp, recorded_spans: RecordedSpans
) -> None:
    first = testapp.get("/article/1").json
    recorded_spans.clear()
    assert testapp.get("/article/1").json == first
    assert recorded_spans.tree() == [
        ("GET /article/{number}", None),
        ("cache.pipeline_get", "GET /article/{number}"),
    ]


# end of example


def test_a_miss_takes_five_round_trips(testapp: TestApp, recorded_spans: RecordedSpans) -> None:
    testapp.get("/article/1")
    testapp.get("/article/2")
    assert {parent for name, parent in recorded_spans.tree() if "." in name} == {
        "GET /article/{number}"
    }
    recorded_spans.clear()
    testapp.get("/article/3")
    own = [name for name in recorded_spans.names if name.startswith("cache.")]
    assert own == [
        "cache.pipeline_get",
        "cache.SET",
        "cache.pipeline_get",
        "cache.pipeline_set",
        "cache.EVALSHA",
    ]


def test_a_value_is_json_under_a_prefix_and_expires(testapp: TestApp) -> None:
    testapp.get("/article/1")
    client = plain_client(testapp.app, "cache")
    assert client.keys() == [b"cache:article:1"]  # no lock is left
    assert 590 < client.ttl("cache:article:1") <= 600
    assert b'{"number": "1", "title": "Pyramids"}' in client.get("cache:article:1")


def test_a_deleted_value_is_computed_again(testapp: TestApp, articles: Articles) -> None:
    testapp.get("/article/1")
    testapp.get("/change/1?title=Sphinxes")
    assert testapp.get("/article/1").json["title"] == "Sphinxes"
    assert articles.loads == 2


def test_a_value_of_another_format_is_a_miss(testapp: TestApp, articles: Articles) -> None:
    testapp.get("/article/1")
    client = plain_client(testapp.app, "cache")
    metadata, _, _ = client.get("cache:article:1").partition(b"|")
    client.set("cache:article:1", metadata + b"|\x80 is no JSON")
    assert testapp.get("/article/1").json["title"] == "Pyramids"
    assert articles.loads == 2


def test_only_one_of_many_callers_computes_a_missing_value(
    testapp: TestApp, articles: Articles, recipe: Recipe
) -> None:
    articles.on_load = lambda: time.sleep(0.2)
    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(lambda _: testapp.get("/article/1").json, range(8)))
    assert articles.loads == 1
    assert answers == [{"number": "1", "title": "Pyramids"}] * 8


def test_the_lock_holds_between_processes(testapp: TestApp, articles: Articles) -> None:
    """A lock that another process holds is in Redis."""
    client = plain_client(testapp.app, "cache")
    with ThreadPoolExecutor(1) as threads, client.lock("lock:cache:article:1", timeout=30):
        answer = threads.submit(testapp.get, "/article/1")
        time.sleep(0.3)
        assert articles.loads == 0
        articles.region.set("article:1", {"by": "the other process"})
    assert answer.result().json == {"by": "the other process"}
    assert articles.loads == 0


def test_an_old_value_is_served_while_one_caller_computes(
    testapp: TestApp, articles: Articles
) -> None:
    testapp.get("/article/1")
    articles.region.expiration_time = 0.001
    articles.title = "Sphinxes"
    loading, goes_on = threading.Event(), threading.Event()
    articles.on_load = lambda: (loading.set(), goes_on.wait(10))
    with ThreadPoolExecutor(1) as threads:
        refreshing = threads.submit(testapp.get, "/article/1")
        assert loading.wait(10)
        assert testapp.get("/article/1").json["title"] == "Pyramids"
        goes_on.set()
        assert refreshing.result().json["title"] == "Sphinxes"
    assert articles.loads == 2


def test_a_lock_that_ran_out_is_no_error(testapp: TestApp, articles: Articles) -> None:
    client = plain_client(testapp.app, "cache")
    articles.on_load = lambda: client.delete("lock:cache:article:1")
    assert testapp.get("/article/1").json["title"] == "Pyramids"


def test_dogpile_s_own_backend_has_no_spans_and_fails_without_redis(
    own_server: Server, make_client: MakeClient, recorded_spans: RecordedSpans
) -> None:
    """The reason for a backend of our own."""
    pool = make_client(own_server).connection_pool
    region = make_region().configure("dogpile.cache.redis", arguments={"connection_pool": pool})
    assert region.get_or_create("a", lambda: 1) == region.get_or_create("a", lambda: 2) == 1
    assert recorded_spans.names == []
    own_server.kill()
    with pytest.raises(redis.ConnectionError):
        region.get("a")


def test_the_client_is_the_request_s(
    configure: Configure, articles: Articles, empty_redis: None, recorded_spans: RecordedSpans
) -> None:
    def renamed(request: Request) -> Any:
        request.cache = MonitoredRedisConnection("mine", None, request.cache.connection_pool)
        return articles.views.article(request)

    serve(configure("caching"), articles, renamed).get("/renamed/1")
    assert "mine.pipeline_get" in recorded_spans.names
    recorded_spans.clear()
    articles.region.get("article:1")  # outside a request
    assert recorded_spans.names == ["cache.pipeline_get"]


@pytest.mark.slow("starts a Cluster")
def test_a_cluster_caches_too(
    recipe: Recipe, articles: Articles, cluster: Cluster, make_config: Callable[..., Configurator]
) -> None:
    config = make_config(cache__url=cluster.url)
    config.include(recipe("caching"))
    app = serve(config, articles)
    for _ in range(2):
        assert app.get("/article/1").json["title"] == "Pyramids"
    assert articles.loads == 1
    app.get("/change/1?title=Sphinxes")
    assert app.get("/article/1").json["title"] == "Sphinxes"
    doubled = articles.region.get_or_create_multi(["a", "b"], lambda *keys: [2 * k for k in keys])
    assert doubled == articles.region.get_multi(["a", "b"]) == ["aa", "bb"]
    articles.region.delete_multi(["a", "b"])
    assert articles.region.get("a") is NO_VALUE


def test_a_server_that_is_down_is_an_empty_cache(
    configure: Configure, articles: Articles, own_server: Server
) -> None:
    settings = {"cache.url": own_server.url, "cache.breaker_reset": "100 milliseconds"}
    app = serve(configure("caching", settings), articles)
    app.get("/article/1")
    own_server.kill()
    assert app.get("/article/1").json["title"] == "Pyramids"
    assert articles.loads == 2
    with pytest.raises(redis.ConnectionError):
        app.get("/change/1?title=Sphinxes")  # an invalidation that did not happen
    own_server.restart()

    def cached() -> bool:
        loads = articles.loads
        app.get("/article/1")
        return articles.loads == loads

    wait_until(cached)  # the breaker is closed again


def test_a_server_that_hangs_costs_half_a_second_once(
    configure: Configure, articles: Articles, own_server: Server
) -> None:
    app = serve(configure("caching", {"cache.url": own_server.url}), articles)
    app.get("/article/1")
    with redis.Redis(port=own_server.port) as client:
        client.client_pause(4000)
    began = time.monotonic()
    for _ in range(2):
        assert app.get("/article/1").json["title"] == "Pyramids"
    middle = time.monotonic()
    for _ in range(5):
        app.get("/article/1")
    assert middle - began > 0.4
    assert time.monotonic() - middle < 1.5
    with pytest.raises(CircuitOpenError):
        app.get("/change/1?title=Sphinxes")


def test_get_multi_is_empty_without_redis(recipe: Recipe, configure: Configure) -> None:
    configure("caching", {"cache.url": "redis://127.0.0.1:1/0"}).make_wsgi_app()
    module = recipe("caching")
    made = module.region.get_or_create_multi(["a", "b"], lambda *keys: [key * 2 for key in keys])
    assert made == ["aa", "bb"]
