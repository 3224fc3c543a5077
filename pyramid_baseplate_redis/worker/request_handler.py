"""Calls a handler with a request of Pyramid, in a transaction where pyramid_tm is included."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from pyramid.interfaces import IRequestExtensions, IRequestFactory
from pyramid.request import Request
from pyramid.scripting import prepare
from pyramid.threadlocal import manager as thread_locals
from pyramid.util import DottedNameResolver

from ..exceptions import MessageQueueError
from ..queues.messages import DurableMessage
from .handlers import Handler, check_result

logger = logging.getLogger(__package__)


class RequestHandler:
    """Calls ``handle(request, message)``, each in a transaction if there are any.

    :func:`pyramid.scripting.prepare` runs no tween, so pyramid_tm's does not begin a transaction.
    This class does, by the same manager, before the root factory runs.

    :param base_url: the URL that ``request.host_url`` and ``request.route_url()`` start with.
    """

    def __init__(self, registry: Any, handler: Handler, base_url: str | None) -> None:
        self._registry = registry
        self._handler = handler
        self._base_url = base_url
        self._factory = registry.queryUtility(IRequestFactory, default=Request)
        extensions = registry.queryUtility(IRequestExtensions)
        self._has_transactions = extensions is not None and "tm" in extensions.descriptors

    def __call__(self, message: DurableMessage, renew: Callable[[], None]) -> None:
        """Call the handler; commit its transaction, or abort it if the handler raises.

        :param renew: renews the message's lease if half of it is over. It raises
            :exc:`.LeaseLostError` if another consumer has the message; then the transaction is
            aborted.
        """
        request = self._factory.blank("/", base_url=self._base_url)
        request.registry = self._registry
        with _thread_locals_restored(), _finished(request):
            if self._has_transactions:
                self._in_transaction(request, message, renew)
            else:
                prepare(request, self._registry)
                check_result(self._handler(request, message))

    def _in_transaction(
        self, request: Any, message: DurableMessage, renew: Callable[[], None]
    ) -> None:
        manager = self._manager(request)
        request.environ["tm.manager"] = manager
        request.environ["tm.active"] = True
        transaction = manager.begin()
        try:
            try:
                prepare(request, self._registry)
                transaction.note(f"{type(message).__name__} {message.id}")
                check_result(self._handler(request, message))
                if manager.isDoomed():
                    raise MessageQueueError(f"{message.id}: its transaction is doomed")
                renew()
                manager.commit()
            except BaseException:
                manager.abort()
                raise
        finally:
            request.environ.pop("tm.active", None)

    def _manager(self, request: Any) -> Any:
        """Return the transaction manager that pyramid_tm would use."""
        hook = self._registry.settings.get("tm.manager_hook")
        if hook:
            return DottedNameResolver(None).maybe_resolve(hook)(request)
        import transaction  # pyramid_tm needs it

        return transaction.TransactionManager(explicit=True)


@contextmanager
def _finished(request: Any) -> Iterator[None]:
    """Run the finished callbacks of a request at the end.

    Their errors are logged: the transaction is already committed or aborted.
    """
    try:
        yield
    finally:
        while request.finished_callbacks:
            callback = request.finished_callbacks.popleft()
            try:
                callback(request)
            except Exception:
                logger.exception("a finished callback of a message's request failed")


@contextmanager
def _thread_locals_restored() -> Iterator[None]:
    """Remove what ``prepare()`` pushed, also if the root factory or a callback raises."""
    depth = len(thread_locals.stack)
    try:
        yield
    finally:
        while len(thread_locals.stack) > depth:
            thread_locals.pop()
