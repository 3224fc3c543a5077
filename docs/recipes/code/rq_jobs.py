"""RQ on the application's Redis clients: jobs with a request, in the trace that enqueued them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from opentelemetry import propagate, trace
from pyramid.paster import bootstrap
from pyramid.request import Request
from pyramid.scripting import prepare
from pyramid.threadlocal import get_current_registry, get_current_request
from rq import Queue, Retry, Worker
from rq.job import Job

tracer = trace.get_tracer(__name__)


class PyramidJob(Job):
    """A job that runs with a Pyramid request and has a span in the trace that enqueued it."""

    def perform(self) -> Any:
        parent = propagate.extract(self.meta)
        kind = trace.SpanKind.CONSUMER
        try:
            with (
                tracer.start_as_current_span(f"process {self.origin}", parent, kind),
                prepare(registry=get_current_registry()),
            ):
                return super().perform()
        finally:
            # rq.Worker forks for each job, and the child exits without exporting its spans.
            flush = getattr(trace.get_tracer_provider(), "force_flush", None)
            if flush is not None:
                flush()


def enqueue(request: Request, function: Callable[..., Any], *args: Any, **options: Any) -> Job:
    """Enqueue a job. ``options`` are those of :meth:`rq.Queue.enqueue`."""
    trace_context: dict[str, str] = {}
    propagate.inject(trace_context)
    queue = Queue("mail", connection=request.foo, job_class=PyramidJob)
    return queue.enqueue(function, *args, meta=trace_context, **options)


def enqueue_after_commit(
    request: Request, function: Callable[..., Any], *args: Any, **options: Any
) -> None:
    """Enqueue a job when the transaction of pyramid_tm has committed."""

    def hook(committed: bool) -> None:
        if committed:
            enqueue(request, function, *args, **options)

    request.tm.get().addAfterCommitHook(hook)


def work(config_uri: str) -> None:
    """Run a worker until it gets a signal."""
    with bootstrap(config_uri) as env:
        Worker(["mail"], connection=env["request"].rq, job_class=PyramidJob).work()


# Your jobs and views:


def send_welcome(user: str) -> int:
    foo = get_current_request().foo
    return int(foo.hincrby("welcomes", user, 1))


def sign_up(request: Request) -> dict[str, str]:
    user = request.params["user"]
    job = enqueue(request, send_welcome, user, job_timeout=60, retry=Retry(max=3, interval=10))
    return {"job": job.id}
