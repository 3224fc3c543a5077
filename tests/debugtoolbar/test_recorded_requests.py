"""The commands that belong to a request in the debug toolbar, and when none are recorded."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from pyramid.config import Configurator
from pyramid.request import Request
from pyramid.response import Response

from pyramid_baseplate_redis import server_context
from pyramid_baseplate_redis.debugtoolbar.recorder import Recorder

from ..support.toolbar import Toolbar, View, words


def get_a(request: Request) -> Response:
    request.foo.get("a")
    return Response("<body></body>")


class TestWhatBelongsToARequest:
    def test_commands_of_an_exception_view(self, serve: Callable[..., Toolbar]) -> None:
        def view(request: Request) -> Response:
            request.foo.get("view")
            raise ValueError

        def exception_view(error: ValueError, request: Request) -> Response:
            request.foo.get("exception view")
            return Response()

        toolbar = serve(
            view, lambda config: config.add_exception_view(exception_view, context=ValueError)
        )
        toolbar.get()

        assert toolbar.commands == ["GET view", 'GET "exception view"']

    def test_commands_before_an_error_that_is_not_handled(
        self, serve: Callable[..., Toolbar]
    ) -> None:
        def view(request: Request) -> Response:
            request.foo.get("a")
            raise ValueError

        toolbar = serve(view)
        toolbar.get(expect_errors=True)

        assert toolbar.commands == ["GET a"]

    @pytest.mark.parametrize("use_tweens", [False, True])
    def test_commands_of_a_subrequest(
        self, serve: Callable[..., Toolbar], use_tweens: bool
    ) -> None:
        def view(request: Request) -> Response:
            request.foo.get("outer")
            response: Response = request.invoke_subrequest(
                Request.blank("/inner"), use_tweens=use_tweens
            )
            return response

        def inner(request: Request) -> Response:
            request.foo.get("inner")
            return Response()

        def prepare(config: Configurator) -> None:
            config.add_route("inner", "/inner")
            config.add_view(inner, route_name="inner")

        toolbar = serve(view, prepare)
        toolbar.get()

        assert toolbar.commands == ["GET outer", "GET inner"]

    def test_commands_of_a_client_that_an_outer_tween_has_used(
        self, serve: Callable[..., Toolbar]
    ) -> None:
        toolbar = serve(
            get_a,
            lambda config: config.add_tween(f"{__name__}.outer_tween_factory"),
        )
        toolbar.get()

        assert toolbar.commands == ["GET a"]

    def test_commands_of_a_thread_that_uses_the_client_first(
        self, serve: Callable[..., Toolbar]
    ) -> None:
        def view(request: Request) -> Response:
            thread = threading.Thread(target=get_a, args=(request,))
            thread.start()
            thread.join()
            return Response()

        toolbar = serve(view)
        toolbar.get()

        assert toolbar.commands == ["GET a"]

    def test_commands_while_the_body_is_sent(self, serve: Callable[..., Toolbar]) -> None:
        def body(request: Request) -> Iterator[bytes]:
            request.foo.get("a")
            yield b"hello"

        toolbar = serve(lambda request: Response(app_iter=body(request), content_type="text/plain"))
        toolbar.get()

        assert toolbar.commands == ["GET a"]
        assert words(toolbar.rows[0].select("td")[4]).endswith("after the response")

    def test_commands_of_a_thread_that_outlives_the_request(
        self, serve: Callable[..., Toolbar]
    ) -> None:
        go_on, found = threading.Event(), []
        threads = []

        def work(request: Request) -> None:
            go_on.wait(10)
            found.append(request.foo.get("a"))

        def view(request: Request) -> Response:
            threads.append(threading.Thread(target=work, args=(request,)))
            threads[0].start()
            return Response()

        toolbar = serve(view)
        toolbar.get()
        before = toolbar.panel
        go_on.set()
        threads[0].join()

        assert before is None
        assert found == [None]
        assert toolbar.commands == ["GET a"]

    def test_two_requests_are_distinguished(self, serve: Callable[..., Toolbar]) -> None:
        toolbar = serve(lambda request: (request.foo.get(request.GET["key"]), Response())[1])
        toolbar.get("/?key=first")
        toolbar.get("/?key=second")

        assert toolbar.commands == ["GET second"]


def outer_tween_factory(handler: View, registry: Any) -> View:
    def tween(request: Request) -> Any:
        request.foo.get("outer tween")
        return handler(request)

    return tween


class TestNothingIsRecorded:
    @pytest.fixture(autouse=True)
    def recorded(self, monkeypatch: pytest.MonkeyPatch) -> list[object]:
        """What any recorder was told of."""
        told: list[object] = []
        monkeypatch.setattr(Recorder, "ended", lambda self, *args: told.append(args))
        return told

    def test_by_a_panel_that_is_not_included(
        self, serve: Callable[..., Toolbar], recorded: list[object]
    ) -> None:
        toolbar = serve(get_a, debugtoolbar__includes="")
        toolbar.get()

        assert toolbar.tab is None
        assert recorded == []

    @pytest.mark.parametrize(
        "settings",
        [
            {"debugtoolbar__enabled": "false"},
            {"debugtoolbar__panels": "headers"},
            {"debugtoolbar__hosts": "10.0.0.1"},
            {"debugtoolbar__exclude_prefixes": "/"},
        ],
    )
    def test_where_the_toolbar_is_off(
        self,
        serve: Callable[..., Toolbar],
        recorded: list[object],
        settings: dict[str, str],
    ) -> None:
        observers = []

        def view(request: Request) -> Response:
            observers.append(list(request.foo.client_telemetry.observers))
            return get_a(request)

        serve(view, **settings).get()

        assert observers == [[]]
        assert recorded == []

    def test_outside_a_request(self, serve: Callable[..., Toolbar], recorded: list[object]) -> None:
        toolbar = serve(get_a)

        with server_context(toolbar.app.app.registry, "script") as context:
            context.foo.get("a")

        assert recorded == []

    def test_but_where_the_toolbar_is_on_it_is(
        self, serve: Callable[..., Toolbar], recorded: list[object]
    ) -> None:
        serve(get_a).get()

        assert len(recorded) == 1
