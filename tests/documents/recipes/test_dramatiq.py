"""The recipe for dramatiq: traces, requests and failures are as its page says."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from configparser import ConfigParser
from pathlib import Path
from typing import Any

import dramatiq
import pytest
import redis
from dramatiq.brokers.redis import RedisBroker
from dramatiq.errors import DecodeError
from opentelemetry import trace
from pyramid.config import Configurator
from pyramid.request import Request
from pyramid.scripting import prepare
from pyramid.threadlocal import manager
from webtest import TestApp

from docs.recipes.code.dramatiq_broker import main, make_broker
from pyramid_baseplate_redis import testing

from ...support.servers import RecordedSpans, Server, wait_until

ROOT = Path(__file__).parents[3]
INI = (ROOT / "docs/recipes/code/dramatiq_broker.ini").read_text()


@pytest.fixture(scope="module")
def app() -> Any:
    parser = ConfigParser()
    parser.read_string(INI)
    return main({}, **testing.for_tests(dict(parser["app:main"])))


@pytest.fixture
def testapp(app: Any) -> TestApp:
    testing.flush(app)
    return TestApp(app)


@pytest.fixture
def worker(testapp: TestApp) -> Iterator[dramatiq.Worker]:
    worker = dramatiq.Worker(dramatiq.get_broker(), worker_timeout=50, worker_threads=2)
    worker.start()
    yield worker
    worker.stop()


def test_a_welcome_is_sent(testapp: TestApp, worker: dramatiq.Worker) -> None:
    testapp.get("/sign_up?user=ada")
    dramatiq.get_broker().join("mail", timeout=10_000)
    worker.join()
    client = testing.plain_client(testapp.app, "foo")
    assert client.hget("welcomes", "ada") == b"1"


def run(worker: dramatiq.Worker) -> None:
    dramatiq.get_broker().join("mail", timeout=10_000)
    worker.join()
    worker.stop()


def test_sending_is_part_of_the_request(testapp: TestApp, spans: RecordedSpans) -> None:
    testapp.get("/sign_up?user=ada")
    spans.clear()  # the first time, redis-py loads the script
    testapp.get("/sign_up?user=ada")
    assert spans.tree() == [("GET /sign_up", None), ("dramatiq.EVALSHA", "GET /sign_up")]


def test_an_actor_runs_in_the_trace_of_the_request(
    testapp: TestApp, worker: dramatiq.Worker, spans: RecordedSpans
) -> None:
    testapp.get("/sign_up?user=ada")
    run(worker)
    assert ("process mail", "GET /sign_up") in spans.tree()
    assert ("foo.HINCRBY", "process mail") in spans.tree()


def test_the_worker_s_own_commands_have_no_spans(
    testapp: TestApp, worker: dramatiq.Worker, spans: RecordedSpans
) -> None:
    testapp.get("/sign_up?user=ada")
    run(worker)
    parents = {parent for name, parent in spans.tree() if name.startswith("dramatiq.")}
    assert parents == {"GET /sign_up"}


def test_a_failure_is_an_error_of_its_span(
    testapp: TestApp, worker: dramatiq.Worker, spans: RecordedSpans
) -> None:
    send_welcome = dramatiq.get_broker().get_actor("send_welcome")
    send_welcome.send_with_options(args=({"not": "text"},), max_retries=0)
    run(worker)
    assert spans.one("process mail").status.is_ok is False


def test_a_retry_stays_in_the_trace(
    testapp: TestApp, worker: dramatiq.Worker, spans: RecordedSpans
) -> None:
    send_welcome = dramatiq.get_broker().get_actor("send_welcome")
    with trace.get_tracer(__name__).start_as_current_span("sender"):
        send_welcome.send_with_options(args=({"not": "text"},), max_retries=1, min_backoff=1)
    run(worker)
    attempts = [parent for name, parent in spans.tree() if name == "process mail"]
    assert attempts == ["sender", "sender"]


def test_no_request_stays_current_in_a_thread(testapp: TestApp, worker: dramatiq.Worker) -> None:
    depths: list[int] = []

    class Depth(dramatiq.Middleware):
        def after_process_message(self, broker: Any, message: Any, **kwargs: Any) -> None:
            depths.append(len(manager.stack))

    middleware = Depth()
    dramatiq.get_broker().middleware.insert(0, middleware)  # comes after the others
    testapp.get("/sign_up?user=ada")
    testapp.get("/sign_up?user=bob")
    run(worker)
    dramatiq.get_broker().middleware.remove(middleware)
    assert depths == [0, 0]


@pytest.mark.parametrize(("commits", "sent"), [(True, 1), (False, 0)])
def test_a_message_is_sent_when_the_transaction_has_committed(
    testapp: TestApp, make_config: Callable[..., Configurator], commits: bool, sent: int
) -> None:
    # Not at the top: the module's actors belong to the broker that is set when it is imported.
    from docs.recipes.code.dramatiq_actors import send_after_commit, send_welcome

    def change(request: Request) -> dict[str, int]:
        send_after_commit(request, send_welcome, "ada")
        if not commits:
            request.tm.doom()
        return {"sent": dramatiq.get_broker().do_qsize("mail")}

    config = make_config()
    config.include("pyramid_tm")
    config.add_route("change", "/change")
    config.add_view(change, route_name="change", renderer="json")
    assert TestApp(config.make_wsgi_app()).get("/change").json == {"sent": 0}
    assert dramatiq.get_broker().do_qsize("mail") == sent


def broker_of(make_config: Callable[..., Configurator], **settings: str) -> RedisBroker:
    config = make_config(**{f"dramatiq__{key}": value for key, value in settings.items()})
    config.commit()
    return make_broker(config.registry)


def test_dramatiq_needs_bytes(make_config: Callable[..., Configurator], valkey: Server) -> None:
    broker = broker_of(make_config, url=valkey.url, decode_responses="true")
    broker.declare_queue("mail")
    broker.enqueue(dramatiq.Message("mail", "send_welcome", (), {}, {}))
    with pytest.raises(DecodeError):
        next(broker.consume("mail"))


def test_sending_raises_redis_py_s_error_if_the_server_is_down(
    make_config: Callable[..., Configurator],
) -> None:
    broker = broker_of(make_config, url="redis://127.0.0.1:1")
    with pytest.raises(redis.ConnectionError):
        broker.enqueue(dramatiq.Message("mail", "send_welcome", (), {}, {}))


def test_the_broker_s_pool_is_that_of_the_application(app: Any) -> None:
    with prepare(registry=app.registry) as env:
        pool = env["request"].dramatiq.connection_pool
    assert dramatiq.get_broker().client.connection_pool is pool


def test_an_acknowledgement_that_times_out_is_no_connection_error_to_dramatiq(
    make_config: Callable[..., Configurator], valkey: Server
) -> None:
    """dramatiq tries again only after its own ConnectionClosed."""
    broker = broker_of(make_config, url=valkey.url, socket_timeout="100 milliseconds")
    broker.declare_queue("mail")
    broker.enqueue(dramatiq.Message("mail", "send_welcome", (), {}, {}))
    consumer = broker.consume("mail")
    message = next(consumer)
    with redis.Redis(port=valkey.port) as other:
        other.client_pause(500)
        with pytest.raises(redis.TimeoutError):
            consumer.ack(message)
        other.ping()  # waits for the end of the pause


@pytest.mark.slow("it starts dramatiq's processes")
def test_the_command_processes_messages(testapp: TestApp, valkey: Server, tmp_path: Path) -> None:
    text = INI.replace("myapp.", "docs.recipes.code.")
    text = text.replace("redis://localhost:6379/0", valkey.url)
    (tmp_path / "production.ini").write_text(text)
    environment = {**os.environ, "CONFIG_URI": str(tmp_path / "production.ini")}
    command = [
        *(sys.executable, "-m", "dramatiq", "docs.recipes.code.dramatiq_broker:worker"),
        *("--processes", "2", "--threads", "1"),
    ]
    with redis.Redis(port=valkey.port) as client:
        broker = RedisBroker(client=client)
        broker.enqueue(dramatiq.Message("mail", "send_welcome", ("ada",), {}, {}))
        process = subprocess.Popen(command, cwd=ROOT, env=environment)
        try:
            wait_until(lambda: client.hget("welcomes", "ada") == b"1", 30)
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(30)
