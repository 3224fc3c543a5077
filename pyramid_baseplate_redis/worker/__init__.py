"""Process the messages of a durable queue in threads, with a request of Pyramid for each."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from .engine import FAILED as FAILED
from .engine import FINISHED as FINISHED
from .engine import UNFINISHED as UNFINISHED
from .engine import Worker
from .handlers import Handler as Handler

if TYPE_CHECKING:
    from zope.interface.interfaces import IComponents


def work(
    registry: IComponents,
    queue: str,
    handler: Handler,
    *,
    with_context: bool = False,
    concurrency: int = 1,
    prefetch: int | None = None,
    grace: float = 30.0,
    stop: threading.Event | None = None,
) -> int:
    """Process a durable queue until SIGTERM or SIGINT, then finish the messages under way.

    Each message is one call of the handler and one log line. If the handler returns, the message
    is acknowledged. If it raises, the message is given back or becomes a dead letter, as described
    at :meth:`.DurableMessageQueue.receive`. While the server is unreachable or a replica takes
    over, the threads retry with growing, jittered pauses.

    With pyramid_tm in the application, each message is one transaction. It is committed after the
    handler has returned and before the message is acknowledged, and aborted if the handler raises.

    A message that was delivered before and never settled may have killed its process. It is handled
    while this process handles no other one. After ten failures in a row, the worker handles one
    message at a time with growing pauses, until one succeeds.

    :param registry: the application's registry, for example ``env["registry"]`` of
        :func:`pyramid.paster.bootstrap`.
    :param queue: the queue's name, as it was declared.
    :param handler: ``handle(request, message)``. The request is one that
        :func:`pyramid.scripting.prepare` makes: it has the clients, queues and request methods that
        a view's request has. A handler that needs longer than half of the lease should call
        ``message.extend()`` from time to time.
    :param with_context: call ``handle(context, message)`` with a :class:`.ServerContext` instead,
        and without a transaction.
    :param concurrency: number of threads.
    :param prefetch: the most messages that are received at once; 1 receives and acknowledges each
        by itself. By default two for each thread. It is less if the handler is slow: what is
        received has to fit into half of the lease.
    :param grace: seconds for finishing messages after the signal. After that, or on a second
        signal, unfinished messages are given back at once.
    :param stop: an event that stops the worker, as a signal does. Outside of the main thread,
        signals are not handled.
    :returns: the exit code: 0 if all messages were finished, 3 if messages were given back, 1 if
        an error that waiting does not fix stopped the worker. The error is logged.
    :raises ConfigurationError: there is no durable queue of that name, its client has fewer
        connections than ``concurrency``, a number is less than 1, or the handler can't be called
        with two arguments, is a class, or would have to be awaited or iterated.
    """
    worker = Worker(
        registry, queue, handler, with_context=with_context, concurrency=concurrency,
        prefetch=prefetch, stop=stop or threading.Event(),
    )  # fmt: skip
    with worker.stopped_by_signals():
        return worker.run(grace)
