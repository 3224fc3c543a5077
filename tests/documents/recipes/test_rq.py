"""The recipe for RQ: traces, timeouts and failures are as its page says."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from configparser import ConfigParser
from pathlib import Path
from typing import Any

import pytest
import redis
from pyramid.config import Configurator
from pyramid.request import Request
from pyramid.scripting import prepare
from rq import Queue, SimpleWorker, Worker
from rq.exceptions import DuplicateJobError
from webtest import TestApp

from docs.recipes.code.rq_jobs import (
    PyramidJob,
    enqueue,
    enqueue_after_commit,
    send_welcome,
    sign_up,
)
from pyramid_baseplate_redis import MonitoredRedisConnection, pool_from_config, testing

from ...support.servers import RecordedSpans, Server, wait_until

ROOT = Path(__file__).parents[3]
INI = (ROOT / "docs/recipes/code/rq_jobs.ini").read_text()


def settings(url: str) -> dict[str, str]:
    """The recipe's settings, for a server of the tests."""
    parser = ConfigParser()
    parser.read_string(INI.replace("redis://localhost:6379/0", url))
    return dict(parser["app:main"])


@pytest.fixture
def config(make_config: Callable[..., Configurator], valkey: Server) -> Configurator:
    config = make_config(**settings(valkey.url))
    config.add_route("sign_up", "/sign_up")
    config.add_view(sign_up, route_name="sign_up", renderer="json")
    return config


@pytest.fixture
def app(config: Configurator) -> TestApp:
    return TestApp(config.make_wsgi_app())


@pytest.fixture(autouse=True)
def signal_handlers() -> Iterator[None]:
    """Put back what a worker replaces in this process for good."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in handlers.items():
        signal.signal(number, handler)


@pytest.fixture
def request_of_script(app: TestApp, config: Configurator) -> Iterator[Request]:
    """The request of a worker's process."""
    with prepare(registry=config.registry) as env:
        yield env["request"]


def run(client: MonitoredRedisConnection) -> None:
    worker = SimpleWorker(["mail"], connection=client, job_class=PyramidJob)
    worker.work(burst=True)


def test_enqueueing_is_part_of_the_request(app: TestApp, spans: RecordedSpans) -> None:
    app.get("/sign_up?user=ada")
    tree = spans.tree()
    assert tree[0] == ("GET /sign_up", None)
    assert ("foo.pipeline", "GET /sign_up") in tree
    assert {parent for _, parent in tree[1:]} == {"GET /sign_up"}


def test_a_job_runs_in_the_trace_of_the_request(
    app: TestApp, request_of_script: Request, spans: RecordedSpans
) -> None:
    app.get("/sign_up?user=ada")
    run(request_of_script.rq)
    assert ("process mail", "GET /sign_up") in spans.tree()
    assert ("foo.HINCRBY", "process mail") in spans.tree()


def test_the_worker_itself_has_no_spans(
    app: TestApp, request_of_script: Request, spans: RecordedSpans
) -> None:
    app.get("/sign_up?user=ada")
    run(request_of_script.rq)
    assert [name for name in spans.names if name.startswith("rq.")] == []


def test_the_result_is_that_of_the_function(app: TestApp, request_of_script: Request) -> None:
    job_id = app.get("/sign_up?user=ada").json["job"]
    run(request_of_script.rq)
    job = PyramidJob.fetch(job_id, connection=request_of_script.foo)
    assert (job.get_status(), job.return_value()) == ("finished", 1)


def test_a_failed_job_is_an_error_of_its_span(
    request_of_script: Request, spans: RecordedSpans
) -> None:
    job = enqueue(request_of_script, send_welcome)  # without its argument
    run(request_of_script.rq)
    assert job.get_status() == "failed"
    assert spans.one("process mail").status.is_ok is False


def test_a_job_enqueued_twice_under_one_id_runs_once(request_of_script: Request) -> None:
    enqueue(request_of_script, send_welcome, "ada", job_id="welcome-ada", unique=True)
    with pytest.raises(DuplicateJobError):
        enqueue(request_of_script, send_welcome, "ada", job_id="welcome-ada", unique=True)


_IN_A_PROCESS = """
import sys
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, ConsoleSpanExporter
trace.set_tracer_provider(TracerProvider())
trace.get_tracer_provider().add_span_processor(BatchSpanProcessor(ConsoleSpanExporter()))
from pyramid.config import Configurator
from pyramid.scripting import prepare
from rq import Worker
from docs.recipes.code.rq_jobs import PyramidJob, enqueue, send_welcome
config = Configurator(settings={"foo.url": sys.argv[1]})
config.include("pyramid_baseplate_redis")
config.commit()
with prepare(registry=config.registry) as env:
    enqueue(env["request"], send_welcome, "ada")
    Worker(["mail"], connection=env["request"].foo, job_class=PyramidJob).work(burst=True)
"""


def test_the_spans_of_a_forked_job_are_exported(valkey: Server) -> None:
    command = [sys.executable, "-c", _IN_A_PROCESS, valkey.url]
    output = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60).stdout
    assert '"name": "process mail"' in output


def test_rq_raises_a_shorter_socket_timeout_of_the_whole_pool(request_of_script: Request) -> None:
    foo = request_of_script.foo
    Worker(["mail"], connection=foo)
    assert foo.connection_pool.connection_kwargs["socket_timeout"] == 415


def test_the_worker_s_client_keeps_its_socket_timeout(request_of_script: Request) -> None:
    rq = request_of_script.rq
    Worker(["mail"], connection=rq)
    assert rq.connection_pool.connection_kwargs["socket_timeout"] == 420


def test_a_connection_that_was_open_before_interrupts_the_wait(valkey: Server) -> None:
    """A worker on the client of the requests would wait with the requests' timeout."""
    pool = pool_from_config({"foo.url": valkey.url, "foo.socket_timeout": "100 ms"}, "foo.")
    client = MonitoredRedisConnection("foo", None, pool)
    client.ping()
    Worker(["mail"], connection=client)
    with pytest.raises(redis.TimeoutError):
        Queue.dequeue_any([Queue("mail", connection=client)], 1, connection=client)
    pool.disconnect()


def test_rq_needs_bytes(make_config: Callable[..., Configurator], valkey: Server) -> None:
    config = make_config(foo__url=valkey.url, foo__decode_responses="true")
    config.commit()
    with prepare(registry=config.registry) as env:
        job = enqueue(env["request"], send_welcome, "ada")
        with pytest.raises(UnicodeDecodeError):
            PyramidJob.fetch(job.id, connection=env["request"].foo)


def test_enqueueing_raises_redis_py_s_error_if_the_server_is_down(
    make_config: Callable[..., Configurator],
) -> None:
    config = make_config(foo__url="redis://127.0.0.1:1")
    config.commit()
    with prepare(registry=config.registry) as env, pytest.raises(redis.ConnectionError):
        enqueue(env["request"], send_welcome, "ada")


@pytest.mark.parametrize(("commits", "jobs"), [(True, 1), (False, 0)])
def test_a_job_is_enqueued_when_the_transaction_has_committed(
    config: Configurator, request_of_script: Request, commits: bool, jobs: int
) -> None:
    def change(request: Request) -> dict[str, int]:
        enqueue_after_commit(request, send_welcome, "ada")
        if not commits:
            request.tm.doom()
        return {"jobs": len(Queue("mail", connection=request.foo))}

    config.include("pyramid_tm")
    config.add_route("change", "/change")
    config.add_view(change, route_name="change", renderer="json")
    assert TestApp(config.make_wsgi_app()).get("/change").json == {"jobs": 0}
    assert len(Queue("mail", connection=request_of_script.foo)) == jobs


def main(global_config: Any, **settings: Any) -> Any:
    with Configurator(settings=settings) as config:
        config.include("pyramid_baseplate_redis")
        config.add_route("sign_up", "/sign_up")
        config.add_view(sign_up, route_name="sign_up", renderer="json")
    return config.make_wsgi_app()


@pytest.fixture
def testapp() -> TestApp:
    app = main({}, **testing.for_tests(settings("redis://production:6379/0")))
    testing.flush(app)
    return TestApp(app)


def test_a_welcome_is_sent(testapp: TestApp) -> None:
    testapp.get("/sign_up?user=ada")
    with prepare(registry=testapp.app.registry) as env:
        client = env["request"].rq
        SimpleWorker(["mail"], connection=client, job_class=PyramidJob).work(burst=True)
        assert client.hget("welcomes", "ada") == b"1"


@pytest.mark.slow("it starts a worker's process")
def test_a_worker_of_an_ini_file_runs_jobs(
    request_of_script: Request, valkey: Server, tmp_path: Path
) -> None:
    ini = tmp_path / "production.ini"
    text = INI.replace("egg:myapp", f"call:{__name__}:main")
    ini.write_text(text.replace("redis://localhost:6379/0", valkey.url))
    code = "import sys; from docs.recipes.code.rq_jobs import work; work(sys.argv[1])"
    command = [sys.executable, "-c", code, str(ini)]
    process = subprocess.Popen(command, cwd=ROOT)
    try:
        job = enqueue(request_of_script, send_welcome, "ada")
        wait_until(lambda: job.get_status() == "finished", 30)
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
