"""A server of the test's own in place of the stand-ins."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import redis
from fakeredis import FakeRedis
from webtest import TestApp

from pyramid_baseplate_redis import ConfigurationError
from pyramid_baseplate_redis.pool.embedded import embedded_server
from pyramid_baseplate_redis.testing import dummy_request, flush, for_tests

from ..support.servers import Server, running_server
from ..support.tested_app import NOBODY, keys_of, make_app


class TestGivenServer:
    @pytest.fixture
    def base(self, valkey: Server) -> str:
        return valkey.url.replace("/0", "/4")

    def given(self, server: Any, **urls: str) -> Any:
        dotted = {f"{name}.url": url for name, url in urls.items()}
        return make_app(for_tests({"foo.url": "rediss://prod/1", **dotted}, server))

    def test_a_url(self, base: str, valkey: Server) -> None:
        TestApp(self.given(base)).get("/count")

        assert redis.Redis(port=valkey.port, db=4).get("count") == b"1"

    def test_a_setting(self, base: str, valkey: Server) -> None:
        settings = for_tests({"foo.url": "rediss://prod/1"})
        TestApp(make_app({**settings, "baseplate_redis.testing.url": base})).get("/count")

        assert redis.Redis(port=valkey.port, db=4).get("count") == b"1"

    def test_what_is_said_of_it_is_its_own_and_nothing_is_the_application_s(self) -> None:
        settings = {
            **for_tests({"foo.url": "rediss://user:real@prod", "foo.ssl_ciphers": "HIGH"}),
            "baseplate_redis.testing.url": f"{NOBODY}/9",
            "baseplate_redis.testing.password": "given",
        }
        with dummy_request(make_app(settings)) as request:
            keywords = request.foo.connection_pool.connection_kwargs
            assert (keywords["host"], keywords["db"]) == ("127.0.0.1", 9)
            assert (keywords["username"], keywords["password"]) == (None, "given")
            assert "ssl_ciphers" not in keywords

    @pytest.mark.parametrize("as_pool", [False, True])
    def test_a_client_or_a_pool(self, valkey: Server, as_pool: bool) -> None:
        client = redis.Redis(port=valkey.port, db=4, decode_responses=True)
        TestApp(self.given(client.connection_pool if as_pool else client)).get("/count")

        assert client.get("count") == "1"

    def test_a_client_on_a_unix_socket(self, tmp_path: Path) -> None:
        server = embedded_server(str(tmp_path))
        server.start()
        client = redis.Redis(unix_socket_path=server.socket_path, db=3)
        TestApp(self.given(client)).get("/count")

        assert client.get("count") == b"1"

    def test_a_fake(self) -> None:
        app = self.given(FakeRedis())

        assert TestApp(app).get("/count").json == {"count": 1}

    def test_the_application_s_decoding_holds(self, valkey: Server) -> None:
        with dummy_request(self.given(redis.Redis(port=valkey.port, db=4))) as request:
            request.foo.set("a", "b")
            assert request.foo.get("a") == b"b"

    def test_databases_are_numbered_from_the_one_named(self, base: str) -> None:
        app = self.given(base, bar="redis://other/1", baz="rediss://prod/1")
        with dummy_request(app) as request:
            request.foo.set("a", "b")
            assert request.baz.get("a") == b"b"
            assert request.bar.get("a") is None
            clients = (request.foo, request.bar)
            assert sorted(each.get_connection_kwargs()["db"] for each in clients) == [4, 5]

    def test_only_the_databases_that_were_used_are_emptied(self, valkey: Server, base: str) -> None:
        app = self.given(base)
        TestApp(app).get("/count")
        other = redis.Redis(port=valkey.port, db=15)
        other.set("precious", 1)

        flush(app)

        assert keys_of(app, "foo") == []
        assert other.exists("precious")

    def test_one_that_is_gone_keeps_no_other_from_being_emptied(
        self, tmp_path: Path, valkey: Server, base: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        with running_server("valkey", tmp_path) as gone:
            first = self.given(gone.url)
            TestApp(first).get("/count")
        app = self.given(base)
        TestApp(app).get("/count")

        flush()
        flush()

        assert keys_of(app, "foo") == []
        told = [each for each in caplog.messages if f"127.0.0.1:{gone.port}" in each]
        assert len(told) == 1
        with pytest.raises(redis.ConnectionError):
            flush(first)

    @pytest.mark.parametrize(
        ("server", "message"),
        [
            ("redis+cluster://secret@a", "baseplate_redis.testing.url: names several servers"),
            ("redis+sentinel://a/b", "baseplate_redis.testing.url: names several servers"),
            ("http://x", "baseplate_redis.testing.url: has an unknown scheme"),
        ],
    )
    def test_what_is_not_one_server_is_refused(self, server: Any, message: str) -> None:
        with pytest.raises(ConfigurationError, match=re.escape(message)):
            self.given(server)

    def test_an_object_that_is_no_client_is_refused_without_its_value(self) -> None:
        with pytest.raises(ConfigurationError, match=r"testing\.client: bytes is not") as raised:
            self.given(b"redis://:secret@x")

        assert "secret" not in str(raised.value)

    def test_two_servers_are_refused(self) -> None:
        settings = for_tests({"foo.url": NOBODY, "pyramid.includes": ""}, "redis://x")
        settings["baseplate_redis.testing.client"] = redis.Redis()

        with pytest.raises(ConfigurationError, match=r"testing\.client: there is .*testing\.url"):
            make_app(settings)

    def test_a_cluster_s_client_is_refused(self, base: str) -> None:
        with pytest.raises(Exception, match="foo is a Cluster's client"):
            make_app(for_tests({"foo.url": "redis+cluster://a"}, base))
