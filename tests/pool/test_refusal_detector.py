"""A replica's refusals of writes are noticed with any parser of replies."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from redis.connection import DefaultParser

from pyramid_baseplate_redis import pool_from_config
from pyramid_baseplate_redis.pool.demotion import RefusalDetector

from ..support.servers import Server, running_server

WRITE_SCRIPT = "return redis.call('SET', 'key', 'value')"


@pytest.fixture(scope="module")
def replica(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    directory: Path = tmp_path_factory.mktemp("replica")
    with running_server("valkey", directory, "--shutdown-timeout", "0") as server:
        with redis.Redis(port=server.port) as admin:
            admin.replicaof("127.0.0.1", 1)
        yield server


class OwnParser(DefaultParser):  # type: ignore[misc, valid-type]
    """An application's parser."""


def write(client: redis.Redis) -> Any:
    with pytest.raises(redis.ReadOnlyError):
        client.set("key", "value")


def write_in_script(client: redis.Redis) -> Any:
    results = client.pipeline().eval(WRITE_SCRIPT, 0).execute(raise_on_error=False)
    assert isinstance(results[0], redis.ReadOnlyError)


@pytest.mark.parametrize("parser_class", [DefaultParser, OwnParser, redis.connection._RESP2Parser])
@pytest.mark.parametrize("refused", [write, write_in_script])
def test_idle_connections_are_closed_after_a_refusal(
    replica: Server, parser_class: Any, refused: Callable[[redis.Redis], None]
) -> None:
    pool = pool_from_config({"foo.url": replica.url}, "foo.", parser_class=parser_class, protocol=2)
    for connection in [pool.get_connection() for _ in range(3)]:
        pool.release(connection)
    refused(redis.Redis(connection_pool=pool))
    assert pool.stats.open == 0


def test_a_parser_without_the_method_is_left_alone() -> None:
    parser = object()
    assert not RefusalDetector(parser).must_close
