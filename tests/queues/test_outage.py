"""A consumer that waits forever waits while the server is away, and for nothing else."""

from __future__ import annotations

import logging
import random
from typing import Any, NoReturn

import pytest
import redis
from redis.backoff import ExponentialWithJitterBackoff

from pyramid_baseplate_redis import (
    ForkedConnectionError,
    MonitoredRedisClusterConnection,
    cluster_pool_from_config,
)
from pyramid_baseplate_redis.queues.outage import Outage

from ..support.servers import MakeClient, Server

logger = logging.getLogger("pyramid_baseplate_redis.queues")


class PausedError(Exception):
    """Raised instead of the first pause."""


@pytest.fixture
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    def compute(*unused: object) -> NoReturn:
        raise PausedError

    monkeypatch.setattr(ExponentialWithJitterBackoff, "compute", compute)


def test_an_outage_is_logged_when_it_begins_and_when_it_ends(
    caplog: pytest.LogCaptureFixture,
) -> None:
    pauses: list[float] = []
    outage = Outage(logger, "queue jobs", longest=0.5, pause=pauses.append)
    for _ in range(2):
        outage.end()
        for _ in range(20):
            assert outage.wait(redis.ConnectionError("refused"))
    outage.end()
    assert caplog.messages == [
        "queue jobs: waiting for the server: refused",
        "queue jobs: the server is back",
    ] * 2  # fmt: skip
    assert len(pauses) == 40
    assert 0 < max(pauses) <= 0.5


def test_the_pauses_double_up_to_two_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(random, "random", lambda: 1.0)  # the most that jitter allows
    pauses: list[float] = []
    outage = Outage(logger, "queue jobs", pause=pauses.append)
    for _ in range(7):
        outage.wait(redis.ConnectionError("refused"))
    assert pauses == pytest.approx([0.2, 0.4, 0.8, 1.6, 2.0, 2.0, 2.0])


def test_after_a_success_the_pauses_begin_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(random, "random", lambda: 1.0)
    pauses: list[float] = []
    outage = Outage(logger, "queue jobs", pause=pauses.append)
    outage.wait(redis.ConnectionError("refused"))
    outage.wait(redis.ConnectionError("refused"))
    outage.end()
    outage.wait(redis.ConnectionError("refused"))
    assert pauses[2] == pauses[0] < pauses[1]


def test_a_first_success_is_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    Outage(logger, "queue jobs").end()
    assert not caplog.messages


@pytest.mark.parametrize(
    "error",
    [redis.AuthenticationError(), redis.exceptions.MaxConnectionsError(), redis.DataError(),
     ForkedConnectionError(), KeyError()],
    ids=repr,
)  # fmt: skip
def test_an_error_that_does_not_pass_is_not_waited_out(
    error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    outage = Outage(logger, "queue jobs", pause=pytest.fail)
    assert not outage.wait(error)
    outage.end()
    assert not caplog.messages


@pytest.mark.usefixtures("no_pauses")
@pytest.mark.parametrize("durable", [False, True], ids=["list", "stream"])
def test_waiting_forever_begins_while_no_node_of_a_cluster_answers(durable: bool) -> None:
    url = "redis+cluster://127.0.0.1:1"  # a port that no server of the tests uses
    pool = cluster_pool_from_config({"foo.url": url}, "foo.")
    client = MonitoredRedisClusterConnection("foo", None, pool)
    queue: Any = client.durable_queue("jobs") if durable else client.message_queue("jobs")
    with pytest.raises(PausedError):
        queue.get(None)


@pytest.mark.usefixtures("no_pauses")
def test_a_list_queue_raises_what_the_server_answers(
    valkey: Server, make_client: MakeClient
) -> None:
    client = make_client(valkey)
    client.config_set("min-replicas-to-write", 1)
    try:
        with pytest.raises(redis.ResponseError, match="NOREPLICAS"):
            client.message_queue("jobs").get(None)
        with pytest.raises(PausedError):
            client.durable_queue("jobs").get(None)
    finally:
        client.config_set("min-replicas-to-write", 0)
