"""mypy accepts the public API as it is meant to be used, and rejects what is a mistake."""

from __future__ import annotations

import pathlib
import re

import pytest
from mypy import api

pytestmark = pytest.mark.slow("runs mypy on all modules, and twice")

ROOT = pathlib.Path(__file__).parents[2]
CONFIGURATION = ["--strict", "--config-file", str(ROOT / "pyproject.toml")]

MISTAKES = {
    "a bare number is no time span": ("Timespan(3)", "arg-type"),
    "a time span is no number of seconds": ("seconds: float = Timespan('3 s')", "assignment"),
    "a pipeline's name is text": ("client.pipeline(name=5)", "arg-type"),
    "a message is bytes or text": ("queue.put(5)", "arg-type"),
    "a queue's timeout is a number": ("queue.get(timeout='1 second')", "arg-type"),
    "a message is not text": ("text: str = queue.get()", "assignment"),
    "a queue needs a client": ("MessageQueue('jobs', 'redis://localhost')", "arg-type"),
    "a queue needs a name": ("MessageQueue(client=client)", "call-arg"),
    "a durable queue's message is bytes or text": ("durable.put(5)", "call-overload"),
    "a durable queue's lease has a unit": (
        "DurableMessageQueue('jobs', client, lease='1 minute')",
        "arg-type",
    ),
    "what waits for a commit has no identifier yet": (
        "entry_id: str = durable.put('job', after_commit=True)",
        "assignment",
    ),
    "settings are a mapping": ("pool_from_config('foo.url')", "arg-type"),
    "a factory needs a pool": ("RedisContextFactory('redis://localhost')", "arg-type"),
    "a client's name is text": ("RedisClient(redis_client_name=5)", "arg-type"),
    "a client has no such method": ("client.nonsense()", "attr-defined"),
    "a script's client is not asynchronous": ("await_me: int = client.get('a')", "assignment"),
    "a server for tests is a URL, a client or a pool": ("for_tests({}, server=6379)", "arg-type"),
    "a span has no text as its index": ("spans['foo.GET']", "call-overload"),
}
PREAMBLE = """
from pyramid_baseplate_redis import (
    DurableMessageQueue, MessageQueue, MonitoredRedisConnection, RedisClient, RedisContextFactory,
    Timespan, pool_from_config,
)
from pyramid_baseplate_redis.testing import for_tests
from pyramid_baseplate_redis.testing.spans import RecordedSpans

def mistake(
    client: MonitoredRedisConnection, queue: MessageQueue, durable: DurableMessageQueue,
    spans: RecordedSpans,
) -> None:
"""


def report_on(path: pathlib.Path) -> str:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)  # where mypy finds the package's sources, and its cache
        report, errors, _ = api.run([*CONFIGURATION, str(path)])
    assert errors == ""
    return report


def test_the_public_api_is_typed_as_it_is_used() -> None:
    report = report_on(pathlib.Path(__file__).with_name("usage.py"))
    assert report == "Success: no issues found in 1 source file\n"


@pytest.fixture(scope="module")
def rejections(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The codes of mypy's errors by the lines that have them."""
    path = tmp_path_factory.mktemp("mistakes") / "mistakes.py"
    lines = [*PREAMBLE.splitlines(), *(f"    {line}" for line, _ in MISTAKES.values())]
    path.write_text("\n".join(lines) + "\n")
    report = report_on(path)
    found = re.findall(r"mistakes\.py:(\d+): error: .* \[([a-z-]+)\]$", report, re.MULTILINE)
    return {lines[int(number) - 1].strip(): code for number, code in found}


@pytest.mark.parametrize(("line", "code"), MISTAKES.values(), ids=MISTAKES.keys())
def test_a_mistake_is_rejected(rejections: dict[str, str], line: str, code: str) -> None:
    assert rejections.get(line) == code


def test_nothing_but_the_mistakes_is_rejected(rejections: dict[str, str]) -> None:
    assert rejections.keys() == {line for line, _ in MISTAKES.values()}
