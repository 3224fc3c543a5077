"""work(): threads that process a durable queue until a signal or an error stops them."""

from __future__ import annotations

import inspect
import logging
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from opentelemetry import trace
from opentelemetry.trace import INVALID_SPAN

from .exceptions import SERVER_ERRORS, ConfigurationError, MessageQueueError, TimedOutError
from .interfaces import IMessageQueueFactory, IRedisContextFactory
from .queues.durable_queue import DurableMessageQueue
from .queues.messages import DurableMessage
from .queues.outage import Outage
from .server_context import ServerContext

if TYPE_CHECKING:
    from zope.interface.interfaces import IComponents

logger = logging.getLogger(__name__)

Handler = Callable[[ServerContext, DurableMessage], object]

#: Exit codes; :func:`work` returns them.
FINISHED, FAILED, UNFINISHED = 0, 1, 3
_WAIT_SECONDS = 1.0  # an idle thread notices within this time that the worker stops


def work(
    registry: IComponents,
    queue: str,
    handler: Handler,
    *,
    concurrency: int = 1,
    grace: float = 30.0,
    stop: threading.Event | None = None,
) -> int:
    """Process a durable queue until SIGTERM or SIGINT, then finish the messages under way.

    Each message is one call of the handler and one log line. If the handler returns, the message
    is acknowledged. If it raises, the message is given back or becomes a dead letter, as described
    at :meth:`.DurableMessageQueue.receive`. While the server is unreachable or a replica takes
    over, the threads retry with growing, jittered pauses.

    :param registry: the application's registry, for example ``env["registry"]`` of
        :func:`pyramid.paster.bootstrap`.
    :param queue: the queue's name, as it was declared.
    :param handler: called with a :class:`.ServerContext`, which has the clients and queues of a
        request, and with the message. A handler that needs longer than half of the lease should
        call ``message.extend()`` from time to time.
    :param concurrency: number of threads.
    :param grace: seconds for finishing messages after the signal. After that, or on a second
        signal, unfinished messages are given back at once.
    :param stop: an event that stops the worker, as a signal does. Outside of the main thread,
        signals are not handled.
    :returns: the exit code: 0 if all messages were finished, 3 if messages were given back, 1 if
        an error that waiting does not fix stopped the worker. The error is logged.
    :raises ConfigurationError: there is no durable queue of that name, its client has fewer
        connections than ``concurrency``, ``concurrency`` is less than 1, or the handler is a
        coroutine function.
    """
    worker = _Worker(registry, queue, handler, concurrency, stop or threading.Event())
    with worker.stopped_by_signals():
        return worker.run(grace)


class _Worker:
    def __init__(
        self, registry: IComponents, queue: str, handler: Handler, concurrency: int,
        stop: threading.Event,
    ) -> None:  # fmt: skip
        factory = registry.queryUtility(IMessageQueueFactory, queue)
        if factory is None or not factory.settings.durable:
            raise ConfigurationError(
                f"{queue}.durable: there is no durable queue of that name. Write {queue}.queue = "
                f"<the Redis client> and {queue}.durable = true."
            )
        if inspect.iscoroutinefunction(handler):
            raise ConfigurationError(
                f"{queue}: the handler is a coroutine function, which the worker does not await: "
                "its messages would be acknowledged unprocessed. Write a plain function."
            )
        if concurrency < 1:
            raise ConfigurationError(
                f"{queue}: a concurrency of {concurrency} is too low. Write 1 or more."
            )
        self._registry = registry
        self._name = queue
        self._handler = handler
        self._stop = stop
        self._is_hurried = threading.Event()
        self._failure: BaseException | None = None
        self._under_way: dict[int, DurableMessage] = {}
        client_factory = registry.getUtility(IRedisContextFactory, factory.client)
        most = getattr(client_factory.connection_pool, "max_connections", concurrency)
        if most < concurrency:
            raise ConfigurationError(
                f"{factory.client}.max_connections: {most} connections are too few for "
                f"{concurrency} threads. Write {concurrency} or more, since each thread needs one."
            )
        client = client_factory.make_object_for_context(factory.client, INVALID_SPAN)
        self._queue: DurableMessageQueue = factory(client)
        self._threads = [
            threading.Thread(
                target=self._run_thread, args=(number,), name=f"{queue}-{number}", daemon=True
            )
            for number in range(concurrency)
        ]

    @contextmanager
    def stopped_by_signals(self) -> Iterator[None]:
        """Let SIGTERM and SIGINT stop the worker; a second signal ends the grace period."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return

        def stop(number: int, frame: object) -> None:
            if self._stop.is_set():
                self._is_hurried.set()
            self._stop.set()

        before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def run(self, grace: float) -> int:
        """Start the threads, wait for the end and return the exit code; see :func:`work`."""
        count = len(self._threads)
        threads = "1 thread processes" if count == 1 else f"{count} threads process"
        logger.info("%s: %s messages", self._name, threads)
        for thread in self._threads:
            thread.start()
        while not self._stop.wait(_WAIT_SECONDS):
            pass
        logger.info("%s: stopping, waiting for the messages under way", self._name)
        deadline = time.monotonic() + grace
        for thread in self._threads:
            while thread.is_alive() and not self._is_hurried.is_set():
                left = deadline - time.monotonic()
                if left <= 0:
                    break
                thread.join(min(left, 0.1))
        given_back = self._give_back()
        if self._failure is not None:
            # The text of a server's error says enough; an error of our own or of the application
            # needs its traceback.
            shown = None if isinstance(self._failure, SERVER_ERRORS) else self._failure
            logger.error("%s: stopped by %s", self._name, self._failure, exc_info=shown)
            return FAILED
        logger.info("%s: stopped, %d messages given back", self._name, given_back)
        return UNFINISHED if given_back else FINISHED

    def _give_back(self) -> int:
        """Give back the messages that running threads have not finished."""
        messages = [each for each in tuple(self._under_way.values()) if not each.is_settled]
        for message in messages:
            try:
                message.give_back()
            except (*SERVER_ERRORS, MessageQueueError) as error:
                logger.warning("%s: %s could not be given back: %s", self._name, message.id, error)
        return len(messages)

    def _run_thread(self, number: int) -> None:
        outage = Outage(logger, self._name, longest=5.0, pause=self._stop.wait)
        try:
            while not self._stop.is_set():
                try:
                    self._process_one(number, outage)
                except TimedOutError:
                    outage.end()
                except SERVER_ERRORS as error:
                    if not outage.wait(error):
                        raise
        except BaseException as error:
            self._failure = self._failure or error
            self._stop.set()

    def _process_one(self, number: int, outage: Outage) -> None:
        """Receive and process a message.

        Errors of receiving are raised, errors of processing are logged.
        """
        message: DurableMessage | None = None
        started = 0.0
        outcome = "failed"
        try:
            with self._queue.receive(_WAIT_SECONDS) as message:
                self._under_way[number] = message
                outage.end()
                started = time.monotonic()
                self._handle(message)
                outcome = "processed, but not acknowledged"
        except Exception as error:
            if message is None:
                raise
            self._log(message, outcome, started, error)
        else:
            self._log(message, "processed", started, None)
        finally:
            self._under_way.pop(number, None)

    def _handle(self, message: DurableMessage) -> None:
        context = ServerContext(self._registry, trace.get_current_span())
        try:
            self._handler(context, message)
        finally:
            context.give_back()

    def _log(
        self, message: DurableMessage, outcome: str, started: float, error: Exception | None
    ) -> None:
        logger.log(
            logging.INFO if error is None else logging.ERROR,
            "%s: %s %s in %.0f ms, attempt %d of %d%s",
            self._name, message.id, outcome, (time.monotonic() - started) * 1000,
            message.attempts, self._queue.max_attempts,
            f": {type(error).__name__}" if error else "",
            exc_info=error,
        )  # fmt: skip
