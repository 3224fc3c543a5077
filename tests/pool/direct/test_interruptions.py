"""A signal handler raises at each step of Python's in turn: no reply and no slot is lost."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
import redis
from opentelemetry.instrumentation.utils import suppress_instrumentation

import pyramid_baseplate_redis
from pyramid_baseplate_redis import MonitoredRedisConnection
from pyramid_baseplate_redis.pool.direct.connection import DirectConnection

from ...support.servers import MakeClient, Server

Client = MonitoredRedisConnection
_CODE = (str(Path(pyramid_baseplate_redis.__file__).parent), str(Path(redis.__file__).parent))


class Interrupted(BaseException):
    """Raised by a signal handler."""


def is_interrupted(call: Callable[[], Any], step: int) -> bool:
    """Call something and interrupt it after so many steps; return whether it took that many."""
    steps = 0

    def trace(frame: FrameType, event: str, arg: Any) -> Any:
        nonlocal steps
        if not frame.f_code.co_filename.startswith(_CODE):
            return None
        frame.f_trace_opcodes = True
        if event == "opcode":
            steps += 1
            if steps == step:
                sys.settrace(None)
                raise Interrupted
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        with suppress(Interrupted):  # it is lost in a destructor
            call()
    finally:
        sys.settrace(before)
    return steps == step


def pipeline_of(client: Client, transaction: bool, text: str) -> Any:
    with client.pipeline("asked", transaction=transaction) as pipeline:
        return pipeline.echo(text).incr("counted").echo(text).execute()


CALLS: dict[str, Callable[[Client, str], Any]] = {
    "command": lambda client, text: client.echo(text),
    "pipeline": lambda client, text: pipeline_of(client, False, text),
    "transaction": lambda client, text: pipeline_of(client, True, text),
}


SLOW = pytest.mark.slow("interrupts thousands of steps, one after the other")


@pytest.mark.parametrize(
    "call",
    [
        CALLS["command"],
        pytest.param(CALLS["pipeline"], marks=SLOW),
        pytest.param(CALLS["transaction"], marks=SLOW),
    ],
    ids=CALLS,
)
def test_a_command_that_is_interrupted_anywhere_leaves_no_reply_behind(
    valkey: Server,
    make_client: MakeClient,
    call: Callable[[Client, str], Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # pytest keeps what is raised in a destructor, with all that its traceback refers to.
    monkeypatch.setattr(sys, "unraisablehook", lambda what: None)
    # A reply that was left behind may arrive after the next check-out has looked for one.
    monkeypatch.setattr(DirectConnection, "is_quiet", lambda connection: True)
    client = make_client(valkey, max_connections="1", pool_timeout="1 second")
    client.echo("connected")
    step = 1
    with suppress_instrumentation():  # its steps are not those of this test
        while is_interrupted(lambda: call(client, "interrupted"), step):
            if client.connection_pool.stats.in_use:
                gc.collect()  # the error may be in a cycle of references
            assert client.connection_pool.stats.in_use == 0, f"a slot is lost at step {step}"
            assert client.echo(f"mine {step}") == f"mine {step}".encode()
            step += 1

    assert step > 500  # or nothing was interrupted
