"""Calls are recorded with their outcomes."""

from __future__ import annotations

import weakref

from .recording import History


class Refused(ConnectionError):
    """An exception to which a weak reference can refer."""


def test_a_failed_call_does_not_keep_its_exception() -> None:
    error = Refused("by the server")
    reference = weakref.ref(error)
    call = History().call("p", "key", "read")
    call.failed(error, definite=True)
    del error

    assert reference() is None
    assert call.value == "Refused: by the server"
