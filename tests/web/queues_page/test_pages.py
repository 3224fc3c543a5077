"""The queues page: what it shows, and what its forms do."""

from __future__ import annotations

import html
import logging
from collections.abc import Callable
from datetime import datetime, timezone
from typing import Any

import pytest
import redis
from pyramid.config import Configurator
from webtest import TestApp

from pyramid_baseplate_redis import DurableMessageQueue, MessageQueue
from pyramid_baseplate_redis.web.queues_page.wording import ABSENT

from ...support.queues_page import bury, page_app
from ...support.servers import RecordedSpans, Server, free_port

MakeConfig = Callable[..., Configurator]
SCRIPT = "<script>alert('pwned')</script>"
QUEUES = {"jobs__queue": "foo", "jobs__durable": "true", "jobs__max_attempts": "1"}


@pytest.fixture
def client(valkey: Server) -> Any:
    with redis.Redis(port=valkey.port) as client:
        yield client


@pytest.fixture
def jobs(client: Any) -> DurableMessageQueue:
    return DurableMessageQueue("jobs", client, max_attempts=1)


@pytest.fixture
def app(make_config: MakeConfig, valkey: Server) -> TestApp:
    """An application with the durable queue ``jobs`` and the queue ``plain`` on a list."""
    return page_app(make_config(foo__url=valkey.url, plain__queue="foo", **QUEUES))


def cells(response: Any, table: str) -> list[list[str]]:
    """The texts of a table's rows."""
    rows = response.html.find("table", {"aria-label": table}).tbody.find_all("tr")
    return [[cell.get_text(" ", strip=True) for cell in row.find_all(["th", "td"])] for row in rows]


def numbers(response: Any) -> dict[str, str]:
    """The numbers on a queue's page."""
    found = response.html.find("dl", class_="numbers")
    return {item.dt.text: item.dd.text for item in found.find_all("div")}


# The overview


def test_overview_has_the_numbers_of_each_queue(
    app: TestApp, jobs: DurableMessageQueue, client: Any
) -> None:
    bury(jobs, "a", "b")
    jobs.put_many(["c", "d", "e"])
    MessageQueue("plain", client).put("message")
    with jobs.receive(5):
        durable, plain = cells(app.get("/queues"), "Queues")

    assert durable[:3] == ["jobs", "3", "1"]
    assert durable[5:] == ["0 s", "2", "foo"]
    assert plain == ["plain a list", "1", *[ABSENT] * 5, "foo"]


def test_overview_of_no_queues(make_config: MakeConfig, valkey: Server) -> None:
    app = page_app(make_config(foo__url=valkey.url))
    assert "declares no message queues" in app.get("/queues")


def test_queue_of_which_nothing_was_ever_put_is_empty(app: TestApp) -> None:
    page = app.get("/queues").click("jobs")
    assert numbers(page)["Length"] == "0"
    assert page.text.count("There are none.") == 2


def test_list_queue_and_unknown_queue_have_no_page(app: TestApp) -> None:
    app.get("/queues/plain", status=404)
    app.get("/queues/unknown", status=404)


# Dead letters


def test_dead_letter_has_its_error_and_its_body(app: TestApp, jobs: DurableMessageQueue) -> None:
    bury(jobs, '{"invoice": 17}')
    (letter,) = jobs.dead_letters()

    page = app.get("/queues/jobs")
    (row,) = cells(page, "Dead letters")
    detail = page.click(letter.message_id)

    assert row[0] == f'{letter.message_id} {{"invoice": 17}}'
    assert row[1].startswith("tests.support.queues_page.HandlerError")
    assert row[2] == "1"
    assert detail.html.find_all("pre")[-1].text == '\n{\n  "invoice": 17\n}'
    shown_as_hex = detail.click("Hex").html.find_all("pre")[-1].text
    assert shown_as_hex.strip().startswith("00000000  7b 22 69 6e")


def test_text_and_traceback_of_the_error_are_shown_where_they_are_kept(
    app: TestApp, jobs: DurableMessageQueue
) -> None:
    bury(jobs, "message", error=f"broken {SCRIPT}")
    (letter,) = jobs.dead_letters()

    page = app.get("/queues/jobs")
    detail = page.click(letter.message_id)

    assert f"broken {SCRIPT}" in cells(page, "Dead letters")[0][1]
    assert detail.html.find("pre").text.startswith("\nTraceback (most recent call last):\n")
    assert f"broken {SCRIPT}" in detail.html.find("pre").text
    assert page.html.find("script") is detail.html.find("script") is None


def test_delayed_message_is_shown_with_the_time_when_it_is_due(
    app: TestApp, jobs: DurableMessageQueue
) -> None:
    jobs.put("later", at=datetime(2100, 1, 2, tzinfo=timezone.utc))
    page = app.get("/queues/jobs")
    assert numbers(page)["Delayed"] == "1"
    assert "due at" in page.text
    assert "2100-01-02 00:00:00 UTC" in page.text
    assert "2100-01-02 00:00:00 UTC" in page.click(jobs.peek()[0].id).text


def test_dead_letter_is_replayed(app: TestApp, jobs: DurableMessageQueue) -> None:
    bury(jobs, "first", "second")

    forms = app.get("/queues/jobs").forms
    answer = forms[0].submit(status=303).follow()

    assert "1 dead letter replayed." in answer
    assert [letter.body for letter in jobs.dead_letters()] == [b"second"]
    assert [message.body for message in jobs.peek()] == [b"first"]


def test_dead_letter_is_discarded_from_its_own_page(
    app: TestApp, jobs: DurableMessageQueue
) -> None:
    bury(jobs, "first", "second")
    (first, _) = jobs.dead_letters()

    answer = app.get(f"/queues/jobs/dead/{first.id}").forms[1].submit(status=303).follow()

    assert "1 dead letter discarded." in answer
    assert [letter.body for letter in jobs.dead_letters()] == [b"second"]
    assert jobs.peek() == []


def test_dead_letter_that_is_gone(app: TestApp, jobs: DurableMessageQueue) -> None:
    bury(jobs, "message")
    page = app.get("/queues/jobs")
    (letter,) = jobs.dead_letters()
    jobs.discard()

    assert "no longer exists" in page.forms[0].submit().follow()
    assert "replayed or discarded" in app.get(f"/queues/jobs/dead/{letter.id}", status=404)


@pytest.mark.parametrize(("action", "done"), [("Replay", "replayed"), ("Discard", "discarded")])
def test_all_dead_letters_are_moved_after_a_confirmation(
    app: TestApp, jobs: DurableMessageQueue, action: str, done: str
) -> None:
    bury(jobs, "a", "b", "c")

    question = app.get("/queues/jobs").click(f"{action} all")
    assert len(jobs.dead_letters()) == 3
    answer = question.form.submit(status=303).follow()

    assert f"3 dead letters {done}." in answer
    assert jobs.dead_letters() == []
    assert len(jobs.peek()) == (3 if action == "Replay" else 0)


def test_all_are_not_moved_if_one_has_come_meanwhile(
    app: TestApp, jobs: DurableMessageQueue
) -> None:
    bury(jobs, "a", "b")
    question = app.get("/queues/jobs/dead/discard")
    bury(jobs, "c")

    again = question.form.submit(status=409)
    assert len(jobs.dead_letters()) == 3
    again.form.submit(status=303)
    assert jobs.dead_letters() == []


def test_confirmation_of_nothing_has_no_form(app: TestApp) -> None:
    assert len(app.get("/queues/jobs/dead/discard").forms) == 0


def test_oldest_hundred_of_many(app: TestApp, jobs: DurableMessageQueue, client: Any) -> None:
    for _ in range(101):
        client.xadd(jobs.dead_key, {"dead.id": "1-1", "dead.error": "E", "body": "x"})

    page = app.get("/queues/jobs")

    assert "The oldest 100 of 101:" in page
    assert len(cells(page, "Dead letters")) == 100


def test_entry_of_another_program_shows_all_its_fields(
    app: TestApp, jobs: DurableMessageQueue, client: Any
) -> None:
    client.xadd(jobs.dead_key, {"color": "blue", **{f"field {n}": "x" for n in range(60)}})
    (letter,) = jobs.dead_letters()

    page = app.get(f"/queues/jobs/dead/{letter.id}")

    assert "color" in page
    assert "blue" in page
    assert "The body is empty." in page
    assert "Only 50 of 61 are shown." in page


# Messages


def test_messages_are_shown_and_stay(app: TestApp, jobs: DurableMessageQueue) -> None:
    identifiers = jobs.put_many([f"message {n}" for n in range(21)])
    with jobs.receive(5):
        page = app.get("/queues/jobs")
        rows = cells(page, "Messages")

    assert "The oldest 20 of 21:" in page
    assert rows[0][0] == f"{identifiers[0]} message 0"
    assert (rows[0][2], rows[0][3], rows[0][4]) == ("1", jobs.consumer, "9 bytes")
    assert (rows[1][2], rows[1][3]) == ("0", ABSENT)
    assert app.get(f"/queues/jobs/messages/{identifiers[3]}").html.find("pre").text == (
        "\nmessage 3"
    )
    app.get(f"/queues/jobs/messages/{identifiers[0]}", status=404)
    assert len(jobs.peek(30)) == 20


# Safety


def test_nothing_of_a_message_becomes_markup(
    app: TestApp, jobs: DurableMessageQueue, client: Any
) -> None:
    fields = {
        "dead.id": SCRIPT, "dead.error": f'">{SCRIPT}', "body": SCRIPT, f"<{SCRIPT}": f"'{SCRIPT}",
    }  # fmt: skip
    client.xadd(jobs.dead_key, fields)
    identifier = jobs.put(f'"{SCRIPT}')
    (letter,) = jobs.dead_letters()

    pages = [
        app.get("/queues/jobs"),
        app.get(f"/queues/jobs/dead/{letter.id}"),
        app.get(f"/queues/jobs/messages/{identifier}"),
        app.get("/queues/jobs?replayed=%3Cscript%3E&as=%3Cscript%3E"),
        app.get("/queues/jobs/messages/%3Cscript%3E", status=404),
    ]

    for page in pages:
        assert page.html.find("script") is None
    assert html.escape(SCRIPT, quote=False) in pages[0].text


def test_form_needs_the_csrf_token(app: TestApp, jobs: DurableMessageQueue) -> None:
    bury(jobs, "message")
    (letter,) = jobs.dead_letters()
    app.get("/queues/jobs")

    for path in (f"/queues/jobs/dead/{letter.id}/discard", "/queues/jobs/dead/discard"):
        app.post(path, {"dead": "1"}, status=400)
        app.post(path, {"dead": "1", "csrf_token": "wrong"}, status=400)

    assert len(jobs.dead_letters()) == 1


def test_form_field_has_the_name_that_the_application_chose(
    make_config: MakeConfig, valkey: Server, jobs: DurableMessageQueue
) -> None:
    config = make_config(foo__url=valkey.url, **QUEUES)
    config.set_default_csrf_options(require_csrf=True, token="own_token")
    app = page_app(config)
    bury(jobs, "message")

    app.get("/queues/jobs").forms[0].submit(status=303)

    assert jobs.dead_letters() == []


def test_get_moves_nothing(app: TestApp, jobs: DurableMessageQueue) -> None:
    bury(jobs, "message")
    (letter,) = jobs.dead_letters()

    app.get(f"/queues/jobs/dead/{letter.id}/discard", status=404)
    app.get("/queues/jobs/dead/discard?dead=1")

    assert len(jobs.dead_letters()) == 1


@pytest.mark.parametrize("path", ["/queues", "/queues/jobs", "/queues/jobs/messages/1-1"])
def test_headers_forbid_scripts_frames_and_caches(app: TestApp, path: str) -> None:
    headers = app.get(path, expect_errors=True).headers

    assert headers["Cache-Control"] == "no-store"
    assert headers["X-Frame-Options"] == "DENY"
    assert headers["X-Content-Type-Options"] == "nosniff"
    policy = headers["Content-Security-Policy"]
    assert "default-src 'none'; style-src 'self'" in policy
    assert "frame-ancestors 'none'" in policy


def test_page_has_no_script_and_no_inline_style(app: TestApp, jobs: DurableMessageQueue) -> None:
    bury(jobs, "message")
    page = app.get("/queues/jobs")

    assert page.html.find(["script", "style"]) is None
    assert page.html.find(style=True) is None


def test_style_sheet_is_kept_by_the_browser(app: TestApp) -> None:
    path = app.get("/queues").html.find("link")["href"]
    answer = app.get(path)

    assert answer.content_type == "text/css"
    assert "prefers-color-scheme: dark" in answer
    assert "immutable" in answer.headers["Cache-Control"]


# Failures


def test_server_that_is_away(
    make_config: MakeConfig, valkey: Server, caplog: pytest.LogCaptureFixture
) -> None:
    config = make_config(
        foo__url=f"redis://user:the-secret@127.0.0.1:{free_port()}", bar__url=valkey.url,
        more__queue="foo", more__durable="true", well__queue="bar", **QUEUES,
    )  # fmt: skip
    app = page_app(config)

    with caplog.at_level(logging.WARNING, "pyramid_baseplate_redis.web.queues_page"):
        overview = app.get("/queues", status=503)
        queue = app.get("/queues/jobs", status=503)

    alert = overview.html.find(role="alert").text
    assert alert.startswith("The Redis client foo failed for jobs, more. ConnectionError: foo:")
    assert [row[1] for row in cells(overview, "Queues")] == ["unknown", "unknown", "0"]
    assert "The Redis client foo failed." in queue
    assert "foo is failing: ConnectionError" in caplog.text
    assert len(caplog.records) == 2  # the second queue of the client is not asked
    assert "the-secret" not in overview.text + queue.text + caplog.text
    assert queue.headers["Cache-Control"] == "no-store"


def test_server_that_goes_away_before_a_form_is_sent(
    app: TestApp, jobs: DurableMessageQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    bury(jobs, "message")
    page = app.get("/queues/jobs")

    def fail(*ids: str) -> int:
        raise redis.ConnectionError("foo: gone")

    monkeypatch.setattr(DurableMessageQueue, "replay", lambda *ids: fail())
    answer = page.forms[0].submit(status=503)

    assert "ConnectionError: foo: gone" in answer
    assert "may have been moved" in answer


def test_messages_that_cannot_be_read_hide_nothing_else(
    app: TestApp, jobs: DurableMessageQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    bury(jobs, "dead")

    def fail(queue: DurableMessageQueue, count: int) -> None:
        raise redis.TimeoutError("foo: too slow")

    monkeypatch.setattr(DurableMessageQueue, "peek", fail)
    page = app.get("/queues/jobs", status=503)

    assert "They cannot be shown. TimeoutError: foo: too slow" in page.html.text
    assert len(cells(page, "Dead letters")) == 1


def test_key_of_another_type_fails_alone(app: TestApp, client: Any) -> None:
    client.set("{jobs}:messages", "text")
    page = app.get("/queues", status=503)

    assert "WRONGTYPE" in page.html.find(role="alert").text
    assert [row[1] for row in cells(page, "Queues")] == ["unknown", "0"]


# Spans


def test_commands_of_the_page_are_spans_of_the_request(app: TestApp, spans: RecordedSpans) -> None:
    app.get("/queues")
    assert spans.tree() == [
        ("GET /queues", None),
        ("foo.pipeline_stats", "GET /queues"),
        ("foo.LLEN", "GET /queues"),
    ]
