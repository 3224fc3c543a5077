"""The queue of mails: what the form puts on it, and what the worker does with it."""

import pytest
from board import mails

from pyramid_baseplate_redis import TimedOutError

from .test_board import post


def test_the_moderator_gets_a_mail(testapp, request_of_worker, monkeypatch):
    sent = []
    monkeypatch.setattr(mails, "send", lambda mail, host: sent.append(mail))
    post(testapp, "Ada", "Hello")
    with request_of_worker.mails.receive(timeout=0) as job:
        mails.handle(request_of_worker, job)
    assert [mail["Subject"] for mail in sent] == ["Message 1 on the board"]


def test_an_empty_message_sends_no_mail(testapp, request_of_worker):
    post(testapp, "Ada", " ")
    with pytest.raises(TimedOutError):
        request_of_worker.mails.get(timeout=0)
