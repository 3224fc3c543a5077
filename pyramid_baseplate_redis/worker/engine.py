"""The threads of a worker: receiving, handling and settling messages until it stops."""

from __future__ import annotations

import logging
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from opentelemetry.trace import INVALID_SPAN

from ..exceptions import (
    SERVER_ERRORS,
    ConfigurationError,
    LeaseLostError,
    MessageQueueError,
    TimedOutError,
)
from ..interfaces import IMessageQueueFactory, IRedisContextFactory
from ..queues.durable_queue import DurableMessageQueue
from ..queues.messages import DurableMessage
from ..queues.outage import Outage
from .acknowledgements import Acknowledgements
from .dispatcher import Dispatcher, Handle, PutBack, Receive
from .failures import FailureStreak
from .handlers import ContextHandler, Handler, check_handler
from .overdue import report_overdue
from .read_ahead import ReadAhead
from .request_handler import RequestHandler

if TYPE_CHECKING:
    from zope.interface.interfaces import IComponents

logger = logging.getLogger(__package__)

#: Exit codes; :func:`.work` returns them.
FINISHED, FAILED, UNFINISHED = 0, 1, 3
_FAILED = "failed"
_WAIT_SECONDS = 1.0  # a receiving thread notices within this time that the worker stops
_TICK_SECONDS = 0.1  # between two looks at acknowledgements, leases and handlers
_MESSAGES_PER_THREAD = 2  # are read ahead, as dramatiq's worker does


class Worker:
    """Processes a durable queue; see :func:`.work`, which has the parameters."""

    def __init__(
        self, registry: IComponents, queue: str, handler: Handler, *, with_context: bool,
        concurrency: int, prefetch: int | None, stop: threading.Event,
    ) -> None:  # fmt: skip
        factory = registry.queryUtility(IMessageQueueFactory, queue)
        if factory is None or not factory.settings.durable:
            raise ConfigurationError(
                f"{queue}.durable: there is no durable queue of that name. Write {queue}.queue = "
                f"<the Redis client> and {queue}.durable = true."
            )
        check_handler(queue, handler, with_context=with_context)
        for what, number in (("concurrency", concurrency), ("prefetch", prefetch)):
            if number is not None and number < 1:
                raise ConfigurationError(
                    f"{queue}: a {what} of {number} is too low. Write 1 or more."
                )
        self._name = queue
        self._stop = stop
        self._is_hurried = threading.Event()
        self._failure: BaseException | None = None
        client_factory = registry.getUtility(IRedisContextFactory, factory.client)
        most = getattr(client_factory.connection_pool, "max_connections", concurrency)
        if most < concurrency:
            raise ConfigurationError(
                f"{factory.client}.max_connections: {most} connections are too few for "
                f"{concurrency} threads. Write {concurrency} or more, since each thread needs one."
            )
        client = client_factory.make_object_for_context(factory.client, INVALID_SPAN)
        self._queue: DurableMessageQueue = factory(client)
        self._receiver = self._queue.receiver
        self._handle = (
            ContextHandler(registry, handler) if with_context
            else RequestHandler(registry, handler, factory.settings.base_url)
        )  # fmt: skip
        self._lease = self._queue.lease.total_seconds()
        most = concurrency * _MESSAGES_PER_THREAD if prefetch is None else prefetch
        ahead = ReadAhead(most, self._lease, concurrency)
        self._dispatcher = Dispatcher(self._lease, FailureStreak(queue), ahead)
        # One by one if nothing is read ahead.
        self._acknowledgements = Acknowledgements(queue, self._receiver, most)
        self._threads = [
            threading.Thread(target=self._run_thread, name=f"{queue}-{number}", daemon=True)
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
        """Start the threads, wait for the end and return the exit code; see :func:`.work`."""
        count = len(self._threads)
        threads = "1 thread processes" if count == 1 else f"{count} threads process"
        logger.info("%s: %s messages", self._name, threads)
        for thread in self._threads:
            thread.start()
        while not self._stop.wait(_TICK_SECONDS):
            self._look_after()
        logger.info("%s: stopping, waiting for the messages under way", self._name)
        self._tried(self._put_back, self._dispatcher.stop())
        deadline = time.monotonic() + grace
        for thread in self._threads:
            while thread.is_alive() and not self._is_hurried.is_set():
                left = deadline - time.monotonic()
                if left <= 0:
                    break
                thread.join(min(left, _TICK_SECONDS))
                self._look_after()
        given_back = self._give_back()
        self._tried(self._acknowledgements.flush)
        open_ones = len(self._acknowledgements.entries())
        if open_ones:
            logger.warning(
                "%s: processed, but not acknowledged, and to be processed again: %d",
                self._name, open_ones,
            )  # fmt: skip
        if self._failure is not None:
            # The text of a server's error says enough; an error of our own or of the application
            # needs its traceback.
            shown = None if isinstance(self._failure, SERVER_ERRORS) else self._failure
            logger.error("%s: stopped by %s", self._name, self._failure, exc_info=shown)
            return FAILED
        logger.info("%s: stopped, %d messages given back", self._name, given_back)
        return UNFINISHED if given_back or open_ones else FINISHED

    def _look_after(self) -> None:
        """Acknowledge what was processed, renew leases, and report handlers that hang.

        The threads may all be busy, and they wait out an outage; this thread does not.
        """
        self._tried(self._acknowledgements.flush)
        self._tried(self._renew)
        report_overdue(self._name, self._lease, self._dispatcher.under_way())

    def _renew(self) -> None:
        expiring = self._dispatcher.expiring()
        if expiring:
            self._dispatcher.forget(self._receiver.leases.renew(expiring))

    def _tried(self, call: object, *arguments: object) -> None:
        """Call ``call``; log an error of the server, after which the messages are due again."""
        assert callable(call)
        try:
            call(*arguments)
        except (*SERVER_ERRORS, MessageQueueError) as error:
            logger.debug("%s: %s", self._name, error)

    def _put_back(self, messages: Sequence[DurableMessage]) -> None:
        if not messages:
            return
        try:
            self._receiver.leases.put_back(messages)
        except LeaseLostError as error:
            logger.debug("%s: not put back: %s", self._name, error)

    def _give_back(self) -> int:
        """Give back the messages that running threads have not finished."""
        running = [handle.message for handle in self._dispatcher.under_way()]
        processed = self._acknowledgements.entries()
        messages = [
            message for message in running
            if not message.is_settled and message.entry_id not in processed
        ]  # fmt: skip
        for message in messages:
            try:
                message.give_back()
            except (*SERVER_ERRORS, MessageQueueError) as error:
                logger.warning("%s: %s could not be given back: %s", self._name, message.id, error)
        return len(messages)

    def _run_thread(self) -> None:
        outage = Outage(logger, self._name, longest=5.0, pause=self._stop.wait)
        try:
            while True:
                task = self._dispatcher.next()
                if task is None:
                    return
                try:
                    self._do(task, outage)
                except SERVER_ERRORS as error:
                    if not outage.wait(error):
                        raise
        except BaseException as error:
            self._failure = self._failure or error
            self._stop.set()

    def _do(self, task: Handle | Receive | PutBack, outage: Outage) -> None:
        if isinstance(task, Handle):
            self._process(task)
        elif isinstance(task, PutBack):
            try:
                self._put_back(task.messages)
            finally:
                self._dispatcher.were_put_back()
        else:
            self._receive(task, outage)

    def _receive(self, task: Receive, outage: Outage) -> None:
        messages: Sequence[DurableMessage] = ()
        try:
            self._acknowledgements.flush()
            held = task.held | self._acknowledgements.entries()
            seconds = _WAIT_SECONDS if task.suspects else 0
            messages = self._receiver.wait(task.count, seconds, held, task.suspects)
        except TimedOutError:
            pass
        finally:
            self._put_back(self._dispatcher.received(messages))
        outage.end()

    def _process(self, task: Handle) -> None:
        """Handle a message and settle it.

        :raises BaseException: the handler raised one that is not an ``Exception``.
        """
        message = task.message
        has_failed: bool | None = None
        try:
            if task.is_alone:  # it may kill the process, and with it the acknowledgements
                self._tried(self._acknowledgements.flush)
            self._renew_if_late(message)
            has_failed = True
            has_failed = not self._handled(message)
        except LeaseLostError as error:
            logger.debug("%s: not begun: %s", self._name, error)
        finally:
            self._dispatcher.finished(task, has_failed=has_failed)

    def _handled(self, message: DurableMessage) -> bool:
        """Call the handler and settle the message; return whether it was processed.

        A message that was processed and could not be acknowledged is kept for another attempt.
        """
        started, span_started = time.monotonic(), time.perf_counter()
        span = self._receiver.start_processing([message])
        outcome = _FAILED
        failure: BaseException | None = None
        try:
            self._handle(message, lambda: self._renew_if_late(message))
            outcome = "processed, but not acknowledged"
            if not message.is_settled:
                self._acknowledgements.add(message)
            outcome = "processed"
        except BaseException as error:
            failure = error
            if outcome == _FAILED:
                self._receiver.leave([message], error, None)
            if not isinstance(error, Exception):
                raise
        finally:
            self._receiver.stop_processing(span, span_started, failure)
            self._log(message, outcome, started, failure)
        return outcome != _FAILED

    def _renew_if_late(self, message: DurableMessage) -> None:
        """Renew the lease if half of it is over.

        :raises LeaseLostError: another consumer has received the message.
        """
        if not message.is_settled and message.leased_at < time.monotonic() - self._lease / 2:
            message.extend()

    def _log(
        self, message: DurableMessage, outcome: str, started: float, error: BaseException | None
    ) -> None:
        logger.log(
            logging.INFO if error is None else logging.ERROR,
            "%s: %s %s in %.0f ms, attempt %d of %d%s",
            self._name, message.id, outcome, (time.monotonic() - started) * 1000,
            message.attempts, self._queue.max_attempts,
            f": {type(error).__name__}" if error else "",
            exc_info=error,
        )  # fmt: skip
