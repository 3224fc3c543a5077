"""The service of docs/guides/leaving-baseplate does the same after each step.

The first two states need baseplate 2.7.1, which is installed in an environment of its own.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import urllib.request
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import redis
from mirakuru import TCPExecutor

from ...peers.compare import NotInstallable, installed_baseplate
from ...support.servers import Server, free_port, running_server, wait_until
from .votes_service import VotesService

_NAME = {"id": 1, "title": "First"}
_RESPONSES: dict[str, list[Any]] = {
    "GET /health": [(200, {"status": "healthy"})],
    "GET /health?type=liveness": [(200, {"status": "healthy"})],
    "GET /top": [
        (200, {"posts": []}),
        (200, {"posts": [{"id": 2, "title": "Second"}, _NAME]}),
    ],
    "POST /posts": [
        (201, {"id": 1, "title": "First", "score": 0}),
        (201, {"id": 2, "title": "Second", "score": 0}),
        (400, None),
    ],
    "GET /posts/1": [(200, {**_NAME, "score": 0}), (200, {**_NAME, "score": 1})],
    "GET /posts/7": [(404, "Not Found")],
    "GET /nowhere": [(404, "Not Found")],
    "POST /posts/1/vote": [(200, {**_NAME, "score": score}) for score in (1, 2, 0, 1)],
    "POST /posts/2/vote": [(400, None)],
    "POST /posts/7/vote": [(404, "Not Found")],
}
_SPANS = {
    "GET /health": {"redis.PING"},
    "GET /top": {"redis.ZREVRANGE", "redis.pipeline_titles"},
    "POST /posts": {"redis.INCRBY", "redis.pipeline_create_post"},
    "GET /posts/1": {"redis.HGET", "redis.HVALS", "score"},
    "GET /posts/7": {"redis.HGET"},
    "POST /posts/1/vote": {"redis.HGET", "redis.HVALS", "redis.pipeline_vote", "score"},
    "POST /posts/2/vote": {"redis.HGET"},
    "POST /posts/7/vote": {"redis.HGET"},
}
_REDIS_OPERATIONS = {"zrevrange": 2, "incrby": 2, "pipeline": 7, "hget": 9, "hvals": 6}
_COUNTERS = {"votes_posts_created_total": 2, "votes_cast_total": 3}


@pytest.fixture
def server(tmp_path: Path) -> Any:
    with running_server("valkey", tmp_path) as server:
        yield server


@pytest.fixture(scope="module")
def baseplate() -> str:
    """The interpreter of an environment that has baseplate."""
    try:
        return installed_baseplate()
    except NotInstallable as error:
        pytest.skip(f"baseplate can't be installed: {error}")


def responses(said: dict[str, Any]) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = {}
    for exchange in said["exchanges"]:
        found.setdefault(exchange["request"], []).append((exchange["status"], exchange["body"]))
    return found


def spans(said: dict[str, Any]) -> dict[str, set[str]]:
    """Return the names of the spans below the server span, for each request that has any."""
    found: dict[str, set[str]] = {}
    for exchange in said["exchanges"]:
        if exchange["spans"]:
            found.setdefault(exchange["request"], set()).update(exchange["spans"])
    return found


def operations(said: dict[str, Any]) -> dict[str, float]:
    """Return how many Redis operations Prometheus has counted, by command."""
    prefix = "redis_client_requests_total "
    return {
        name.removeprefix(prefix): value
        for name, value in said["counters"].items()
        if name.startswith(prefix)
    }


def own_counters(said: dict[str, Any]) -> dict[str, float]:
    return {name: value for name, value in said["counters"].items() if name.startswith("votes_")}


def stored(server: Server) -> dict[bytes, Any]:
    """Return the posts and votes in the server."""
    with closing(redis.Redis(port=server.port)) as client:
        return {
            b"posts": client.get("posts"),
            b"top": client.zrange("top", 0, -1, withscores=True),
            **{key: client.hgetall(key) for key in client.keys("post:*") + client.keys("votes:*")},
        }


STORED = {
    b"posts": b"2",
    b"top": [(b"1", 0.0), (b"2", 0.0)],
    b"post:1": {b"title": b"First"},
    b"post:2": {b"title": b"Second"},
    b"votes:1": {b"ada": b"1", b"bob": b"-1", b"cyd": b"1"},
}


@pytest.mark.slow("installs baseplate in an environment of its own")
@pytest.mark.parametrize("step", ["before", "step_1"])
def test_on_baseplate(step: str, tmp_path: Path, server: Server, baseplate: str) -> None:
    service = VotesService.copied(step, tmp_path, server, baseplate)
    said = service.talk()
    assert responses(said) == _RESPONSES
    assert spans(said) == _SPANS
    assert operations(said) == {**_REDIS_OPERATIONS, "ping": 1}
    assert own_counters(said) == ({} if step == "before" else _COUNTERS)
    assert stored(server) == STORED
    script = str(Path(baseplate).with_name("baseplate-script"))
    with service.worker(baseplate, script, "service.ini", "worker:main"):
        service.wait_until_ranked()


@pytest.mark.slow("installs baseplate in an environment of its own")
def test_the_new_worker_processes_messages_of_the_old_service(
    tmp_path: Path, server: Server, baseplate: str
) -> None:
    VotesService.copied("step_1", tmp_path, server, baseplate).talk()
    service = VotesService.copied("step_2", tmp_path, server)
    with service.worker(sys.executable, "worker.py", "service.ini"):
        service.wait_until_ranked()


def test_after_the_switch(tmp_path: Path, server: Server) -> None:
    service = VotesService.copied("step_2", tmp_path, server)
    said = service.talk()
    assert responses(said) == _RESPONSES
    put = {"POST /posts/1/vote": {*_SPANS["POST /posts/1/vote"], "redis.RPUSH"}}
    assert spans(said) == {**_SPANS, **put}
    assert operations(said) == {**_REDIS_OPERATIONS, "ping": 1, "rpush": 4}
    assert own_counters(said) == _COUNTERS
    assert stored(server) == STORED
    with service.worker(sys.executable, "worker.py", "service.ini"):
        service.wait_until_ranked()


def test_at_the_end(tmp_path: Path, server: Server) -> None:
    service = VotesService.copied("after", tmp_path, server)
    said = service.talk()
    assert responses(said) == _RESPONSES
    put = {*_SPANS["POST /posts/1/vote"], "send ranking_jobs", "redis.XADD"}
    expected = {**_SPANS, "POST /posts/1/vote": put}
    del expected["GET /health"]
    assert spans(said) == expected
    server_spans = {name for exchange in said["exchanges"] for name in exchange["server_spans"]}
    assert {"GET /top", "POST /posts"} <= server_spans
    assert operations(said) == {**_REDIS_OPERATIONS, "xadd": 4}
    assert own_counters(said) == _COUNTERS
    assert stored(server) == STORED
    predis = shutil.which("predis", path=str(Path(sys.executable).parent))
    assert predis is not None
    with service.worker(
        sys.executable, predis, "work", "service.ini", "ranking_jobs", "worker:rank"
    ):
        service.wait_until_ranked()


def test_gunicorn_serves_the_metrics_of_all_workers_at_a_port_of_its_own(
    tmp_path: Path, server: Server
) -> None:
    service = VotesService.copied("after", tmp_path, server)
    port, metrics_port = free_port(), free_port()
    files = tmp_path / "metrics"
    files.mkdir()
    variables = {"METRICS_PORT": str(metrics_port), "PROMETHEUS_MULTIPROC_DIR": str(files)}
    executor = TCPExecutor(
        [sys.executable, "-m", "gunicorn", "--paste", "service.ini", "--workers", "2",
         "--bind", f"127.0.0.1:{port}"],
        "127.0.0.1", port, timeout=20, cwd=service.directory,
        envvars={**service.environment, **variables}, stdin=subprocess.DEVNULL,
    )  # fmt: skip

    def read(port: int, path: str) -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as response:
            body: bytes = response.read()
            return body.decode()

    with executor:
        assert json.loads(read(port, "/health/redis"))["status"] == "ok"
        for _ in range(4):
            read(port, "/top")
        wait_until(lambda: 'redis_pool="redis"' in read(metrics_port, "/metrics"))
        (counted,) = [
            line
            for line in read(metrics_port, "/metrics").splitlines()
            if line.startswith("redis_client_requests_total") and "zrevrange" in line
        ]
        assert counted.endswith(" 4.0")
