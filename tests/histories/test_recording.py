"""Calls are recorded with their outcomes."""

from __future__ import annotations

import weakref

from .recording import History


class RefusedError(ConnectionError):
    """An exception to which a weak reference can refer."""


def test_a_failed_call_does_not_keep_its_exception() -> None:
    error = RefusedError("by the server")
    reference = weakref.ref(error)
    call = History().call("p", "key", "read")
    call.failed(error, definite=True)
    del error

    assert reference() is None
    assert call.value == "RefusedError: by the server"
