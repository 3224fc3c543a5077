"""Do the same directly and in redis-py's way, and compare all that a caller can see."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from typing import Any

import pytest

from pyramid_baseplate_redis import BlockingConnectionPool, MonitoredRedisConnection
from pyramid_baseplate_redis.pool.direct import connection as direct_connection

Client = MonitoredRedisConnection
SLACK = 0.25  # seconds, on a busy machine
Call = Callable[[Client], Any]


def compare(
    monkeypatch: pytest.MonkeyPatch, make: Callable[[], Client], call: Call, direct: bool = True
) -> dict[str, Any]:
    """Call something with a client of each way, and return the outcome, which must be the same.

    :param make: makes a client, whose first command connects.
    :param call: called with the client once it is connected.
    :param direct: whether it is a call that may go the direct way at all.
    """
    outcomes = []
    for is_direct in (True, False):
        with monkeypatch.context() as patch:
            asked = _counted(patch, is_direct)
            client = make()
            outcomes.append(outcome(client, call))
            assert bool(asked) is (is_direct and direct), f"{len(asked)} commands went directly"
    directly, otherwise = outcomes
    seconds = [each.pop("seconds") for each in outcomes]
    assert seconds[0] == pytest.approx(seconds[1], abs=SLACK)
    assert directly == otherwise, f"directly:\n{directly}\nin redis-py's way:\n{otherwise}"
    return directly


def _counted(patch: pytest.MonkeyPatch, is_direct: bool) -> list[Any]:
    """Decide for one way, and return the list to which direct commands are added."""
    asked: list[Any] = []
    owner = direct_connection.DirectConnection
    send = owner._send

    def counted(self: Any, *args: Any) -> Any:
        asked.append(args)
        return send(self, *args)

    patch.setattr(owner, "_send", counted)
    if not is_direct:
        patch.setattr(direct_connection, "qualifies", lambda *args: False)
    return asked


def outcome(client: Client, call: Call) -> dict[str, Any]:
    """Return what a call returned or raised, and what became of the connection."""
    pool: Any = client.connection_pool
    pool.release(pool.get_connection())
    found: dict[str, Any] = {}
    started = time.monotonic()
    try:
        found["returned"] = described(call(client))
    except BaseException as error:
        found["raised"] = chain(error)
    found["seconds"] = time.monotonic() - started
    found |= state(pool)
    return found


def state(pool: BlockingConnectionPool) -> dict[str, Any]:
    """Return the numbers of a pool's connections, and how often its server has failed."""
    return {"stats": pool.stats, "failures": pool.breaker and pool.breaker._failed}


def described(value: Any) -> Any:
    """Return a value with the types of all that is in it."""
    if isinstance(value, BaseException):
        return chain(value)
    if isinstance(value, (list, tuple)):
        return type(value), [described(each) for each in value]
    if isinstance(value, (set, frozenset)):
        return type(value), sorted(repr(described(each)) for each in value)
    if isinstance(value, dict):
        return type(value), [(described(key), described(each)) for key, each in value.items()]
    return type(value), value if value == value else "nan"


def chain(error: BaseException | None) -> list[Any]:
    """Return the class, text and notes of an error, of its cause and of its context."""
    found: list[Any] = []
    while error is not None:
        text = re.sub(r"0x[0-9a-f]+", "0x", repr(error.args))
        notes = getattr(error, "__notes__", [])
        unsent = getattr(error, "unsent", None)
        found.append((type(error), text, notes, unsent, error.__suppress_context__))
        error = error.__cause__ or error.__context__
    return found
