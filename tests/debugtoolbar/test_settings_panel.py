"""The toolbar shows the application's settings without the secrets of Redis clients."""

from __future__ import annotations

import html
import json
import string
from collections.abc import Callable
from typing import Any
from urllib.parse import quote, quote_plus

import pytest
from pyramid.response import Response

from ..support.servers import Server
from ..support.toolbar import Toolbar, words

PASSWORD = f"Kreuz{string.punctuation} wort €密Z"
ENCODED = quote(PASSWORD, safe="")


def view(request: Any) -> Response:
    return Response("<html><body>hello</body></html>")


def forms_in(secret: str, page: str) -> list[str]:
    """Return the forms of a secret that a page shows: as in text, Python, JSON or a URL."""
    forms = {secret, repr(secret)[1:-1], json.dumps(secret)[1:-1], quote(secret, safe="")}
    forms |= {repr(repr(secret))[1:-1], quote(secret), quote_plus(secret)}
    text = html.unescape(page).casefold()
    return [form for form in forms if form.casefold() in text]


def settings_of(toolbar: Toolbar) -> dict[str, str]:
    rows = toolbar.page.select("#pDebugPanel-settings-content tbody tr")
    return {words(row.select("td")[0]): row.select("td")[1].get_text().strip() for row in rows}


@pytest.fixture
def url_with_password(valkey: Server) -> str:
    return f"redis://:{ENCODED}@127.0.0.1:{valkey.port}/0"


@pytest.mark.parametrize(
    "settings",
    [
        {"bar__url": f"redis://:{ENCODED}@localhost:1/2"},
        {"bar__url": f"redis://user:{ENCODED}@localhost:1/2"},
        {"bar__url": f"redis://localhost:1?password={ENCODED}"},
        {"bar__url": "redis://localhost:1", "bar__password": PASSWORD},
        {"bar__url": "redis+sentinel://localhost:1/main", "bar__sentinel_password": PASSWORD},
    ],
    ids=["url", "url with a user", "argument", "password", "Sentinel's"],
)
def test_no_panel_shows_a_clients_password(
    serve: Callable[..., Toolbar], settings: dict[str, str]
) -> None:
    toolbar = serve(view, **settings)
    toolbar.get()
    page = toolbar.app.get("/_debug_toolbar/").text
    assert "pDebugPanel-settings-content" in page
    assert "pDebugPanel-introspection-content" in page
    assert forms_in(PASSWORD, page) == []


def test_the_panel_shows_where_a_password_is(
    serve: Callable[..., Toolbar], url_with_password: str, valkey: Server
) -> None:
    toolbar = serve(view, bar__url=url_with_password, baz__url="redis://h", baz__password="secret")
    toolbar.get()
    shown = settings_of(toolbar)
    assert shown["bar.url"] == f"'redis://:***@127.0.0.1:{valkey.port}/0'"
    assert (shown["baz.url"], shown["baz.password"]) == ("'redis://:***@h:6379/0'", "'***'")


def test_a_setting_of_another_package_with_the_same_password_is_hidden(
    serve: Callable[..., Toolbar],
) -> None:
    own = {"bar__url": "redis://localhost:1", "bar__password": PASSWORD}
    toolbar = serve(view, **own, cache__arguments=f"password={PASSWORD} db=1")
    toolbar.get()
    assert settings_of(toolbar)["cache.arguments"] == "'password=*** db=1'"


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://:secret@localhost/0", "redis://:***@localhost/0"),
        ("redis://me:s e/cret@localhost/0", "redis://me:***@localhost/0"),
        ("postgresql://me:s@cr:et@db/app?a=b", "postgresql://me:***@db/app?a=b"),
        ("redis://localhost:6379/0", "redis://localhost:6379/0"),
        ("https://example.org/a:b/c@d", "https://example.org/a:b/c@d"),
    ],
)
def test_passwords_in_urls_of_other_packages_are_hidden(
    serve: Callable[..., Toolbar], url: str, shown: str
) -> None:
    toolbar = serve(view, broker__address=url)
    toolbar.get()
    assert settings_of(toolbar)["broker.address"] == f"'{shown}'"


def test_the_applications_settings_stay_as_they_are(
    serve: Callable[..., Toolbar], url_with_password: str
) -> None:
    found = []

    def reading(request: Any) -> Response:
        found.append(request.registry.settings["bar.url"])
        return view(request)

    toolbar = serve(reading, bar__url=url_with_password)
    toolbar.get()
    assert toolbar.page
    assert found == [url_with_password]
