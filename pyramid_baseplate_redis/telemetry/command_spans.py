"""The spans of commands: their names, attributes and statuses.

They follow OpenTelemetry's conventions for database clients, in the version that
:mod:`.semantic_conventions` names. No span has events: an exception's text may contain a value, and
recording one costs more than the command.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import INVALID_SPAN, Span, SpanKind, TraceFlags

from ..command_table import operation_name
from .call_details import CallDetails, Peer, Peers, address_attributes, server_attributes
from .fast_spans.qualification import qualified
from .fast_spans.span import FastSpan, start
from .otel import (
    SUPPRESS_KEY,
    SUPPRESS_PLAIN_KEY,
    current_context,
    log_once,
    tracer,
)
from .query_text import MOST_SHOWN, query_text, shown_text
from .semantic_conventions import (
    DB_CLIENT_CONNECTION_POOL_NAME,
    DB_NAMESPACE,
    DB_OPERATION_BATCH_SIZE,
    DB_OPERATION_NAME,
    DB_QUERY_TEXT,
    DB_STORED_PROCEDURE_NAME,
    DB_SYSTEM_NAME,
    SERVER_ADDRESS,
    SERVER_PORT,
)

logger = logging.getLogger(__package__)

_CLIENT = SpanKind.CLIENT  # looking up a member of an enumeration takes longer
_PROCEDURES = frozenset({"EVALSHA", "EVALSHA_RO", "FCALL", "FCALL_RO"})
_MOST_CACHED = 512  # command names are few, but callers may make them up
# The key under which a context holds its span. trace.get_current_span() would do, but its
# isinstance() check against an abstract class is a third of the cost of an unsampled command.
(_SPAN_KEY,) = trace.set_span_in_context(INVALID_SPAN, Context())


def operation_of(attributes: Mapping[str, Any]) -> str:
    """Return the operation's name, given the attributes of its span."""
    name: str = attributes[DB_OPERATION_NAME]
    return name


def checked_span(server_span: Span | None) -> Span:
    """Return the span that a client belongs to; an invalid one for ``None``.

    :raises TypeError: it is not a span. Without this check a caller who passes redis-py's
        positional arguments would get a client of another server, localhost.
    """
    if server_span is None:
        return INVALID_SPAN
    if not isinstance(server_span, Span):
        raise TypeError(
            f"server_span: {type(server_span).__name__} is not an OpenTelemetry span; pass the "
            "arguments of redis.Redis by name, such as host= and port="
        )
    return server_span


class CommandTracer:
    """Starts and ends the spans of one client's commands.

    :param context_name: the client's name, the first part of every span's name.
    :param pool_name: the value of ``db.client.connection.pool.name``.
    :param connection_kwargs: the pool's; they contain the server's address and the database.
    :param trace: ``all``, ``children``, ``pipelines`` or ``off``.
    :param query_text: ``off``, ``sanitized`` or ``keys``.
    :param exclude: upper-case names of commands that get no span.
    :param peers: the addresses of the pool's connections.
    """

    def __init__(
        self,
        context_name: str,
        *,
        pool_name: str,
        connection_kwargs: Mapping[str, Any],
        trace: str = "all",
        query_text: str = "off",
        exclude: frozenset[str] = frozenset(),
        peers: Peers | None = None,
    ) -> None:
        self.context_name = context_name
        self.query_text = query_text
        self._commands_on = trace in ("all", "children")
        self._batches_on = trace != "off"
        self._roots_on = trace != "children"
        self._exclude = exclude
        self._peers = peers or Peers()
        self._common: dict[str, str | int] = {
            DB_SYSTEM_NAME: "redis",
            DB_NAMESPACE: str(connection_kwargs.get("db") or 0),
            DB_CLIENT_CONNECTION_POOL_NAME: pool_name,
            **server_attributes(connection_kwargs),
        }
        self._commands: dict[object, tuple[str, str, dict[str, Any]]] = {}
        self._served: dict[object, dict[str, Any]] = {}  # by operation and server
        # The attributes of a pipeline's span, by the names of its commands.
        self._batches: dict[tuple[bool, frozenset[Any]], dict[str, Any]] = {}
        # The name and attributes of a command's span, and the peer among them, if that is all.
        self._prepared: dict[object, tuple[str, dict[str, Any], Peer | None]] = {}

    @classmethod
    def for_pool(cls, pool: Any, context_name: str, redis_client_name: str = "") -> CommandTracer:
        """Return the tracer of a client, configured by the settings of its pool.

        :param redis_client_name: the name of the pool, if it differs from ``context_name``.
        """
        settings = getattr(pool, "client_settings", None)
        return cls(
            context_name,
            pool_name=redis_client_name or context_name,
            connection_kwargs=getattr(pool, "connection_kwargs", {}),
            trace=settings.trace if settings else "all",
            query_text=settings.trace_query_text if settings else "off",
            exclude=settings.trace_exclude if settings else frozenset(),
            peers=getattr(pool, "peers", None),
        )

    def children_only(self) -> CommandTracer:
        """Return a copy that never starts a root span."""
        twin = object.__new__(CommandTracer)
        twin.__dict__.update(self.__dict__, _roots_on=False)
        return twin

    @property
    def server(self) -> dict[str, str | int]:
        """The attributes that name the server; empty if it is only known when connected."""
        return {key: self._common[key] for key in (SERVER_ADDRESS, SERVER_PORT)
                if key in self._common}  # fmt: skip

    def command_context(
        self, server_span: Span, args: Sequence[Any], current: Context | None = None
    ) -> Context | None:
        """Return the context for :meth:`started_command`; ``None`` if the command gets no span.

        :param current: the current context, if the caller has it.
        """
        if not self._commands_on:
            return None
        try:
            if current is not None and not self._exclude:
                parent: Any = current.get(_SPAN_KEY)
                if (
                    parent is not None
                    and parent.is_recording()
                    and not (current.get(SUPPRESS_KEY) or current.get(SUPPRESS_PLAIN_KEY))
                ):
                    return current  # the usual case of the method that follows
            context = self._context(server_span, current)
            if context is None or not self._exclude:
                return context
            excluded = self._command(args[0])[1].partition(" ")[0] in self._exclude
            return None if excluded else context
        except Exception:
            log_once("starting a span failed")
            return None

    def started_command(
        self,
        context: Context,
        args: Sequence[Any],
        start_time: int | None,
        notes: CallDetails | None = None,
    ) -> Span | None:
        """Start the span of a command, which may have ended already.

        On a Cluster it has: only then is it known which node answered. Adding the node to a span
        that was started before would cost half as much as the span itself.

        :param context: from :meth:`command_context`, called before the command.
        :param start_time: nanoseconds since the epoch, if the command started earlier.
        :param notes: the details of the call; the server's address is read from them.
        """
        try:
            peer = self._peers.only
            if notes is None:
                prepared = self._prepared.get(args[0])
                if prepared is not None and prepared[2] is peer:
                    name, attributes, _ = prepared
                    sdk = qualified(tracer)
                    if sdk is None:
                        return started(name, context, attributes, start_time)
                    made = start(
                        sdk, name, context, attributes, start_time, _CLIENT, is_prepared=True
                    )
                    return made if type(made) is FastSpan else None
            name, operation, attributes = self._command(args[0])
            if notes is not None and notes.is_of_one_server:
                attributes = self._with_server(attributes, notes.server, notes.peer)
                notes.server_is_told = True
            elif peer is not None:
                attributes = self._with_server(attributes, None, peer)
            if (
                notes is None
                and self.query_text == "off"
                and operation not in _PROCEDURES
                and args[0] in self._commands
                and all(type(value) in (str, int) for value in attributes.values())
            ):
                self._prepared[args[0]] = name, attributes, peer
            if operation in _PROCEDURES:
                attributes = {**attributes, **_procedure(operation, args)}
            if self.query_text != "off":
                attributes = {**attributes, DB_QUERY_TEXT: query_text(args, self.query_text)}
            return started(name, context, attributes, start_time)
        except Exception:
            log_once("starting a span failed")
            return None

    def _with_server(
        self,
        attributes: Mapping[str, Any],
        server: tuple[str, int] | None,
        peer: Peer | None = None,
    ) -> dict[str, Any]:
        key = (attributes[DB_OPERATION_NAME], server, peer)
        known = self._served.get(key)
        if known is None:
            known = {**attributes, **address_attributes(server, peer)}
            if len(self._served) < _MOST_CACHED:
                self._served[key] = known
        return known

    def batch_context(self, server_span: Span, current: Context | None = None) -> Context | None:
        """Return the context for :meth:`started_batch`; ``None`` if the pipeline gets no span.

        :param current: the current context, if the caller has it.
        """
        if not self._batches_on:
            return None
        try:
            return self._context(server_span, current)
        except Exception:
            log_once("starting a span failed")
            return None

    def started_batch(
        self,
        context: Context,
        trace_name: str,
        attributes: Mapping[str, Any],
        commands: Sequence[Any],
        start_time: int | None = None,
    ) -> Span | None:
        """Start the span of a pipeline, which may have ended already.

        :param context: from :meth:`batch_context`.
        :param trace_name: the span's name.
        :param attributes: from :meth:`batch_attributes`.
        :param commands: redis-py's pairs of arguments and options.
        :param start_time: nanoseconds since the epoch, if the pipeline started earlier.
        """
        try:
            peer = self._peers.only
            own = dict(attributes if peer is None else self._with_server(attributes, None, peer))
            if len(commands) > 1:
                own[DB_OPERATION_BATCH_SIZE] = len(commands)
            elif commands:
                own.update(_procedure(own[DB_OPERATION_NAME], commands[0][0]))
            if self.query_text != "off":
                shown = [query_text(args, self.query_text) for args, _ in commands[:MOST_SHOWN]]
                own[DB_QUERY_TEXT] = "; ".join(shown)
            return started(trace_name, context, own, start_time)
        except Exception:
            log_once("starting a span failed")
            return None

    def command_attributes(
        self, command: object, notes: CallDetails | None = None
    ) -> dict[str, Any]:
        """Return the attributes of a command's span; do not modify them.

        :param notes: the details of the call; the server's address is read from them.
        """
        attributes = self._command(command)[2]
        if notes is None or not notes.is_of_one_server:
            return attributes
        return self._with_server(attributes, notes.server)

    def batch_attributes(self, is_transaction: bool, commands: Sequence[Any]) -> dict[str, Any]:
        """Return the attributes of a pipeline's span; do not modify them.

        As the conventions require, a pipeline of one command has the attributes of that command.

        :param is_transaction: whether several commands are called ``MULTI`` or ``PIPELINE``.
        :param commands: redis-py's pairs of arguments and options.
        """
        operation = "MULTI" if is_transaction else "PIPELINE"
        try:
            if len(commands) == 1:
                return self._command(commands[0][0][0])[2]
            key = is_transaction, frozenset([args[0] for args, _ in commands])
            known = self._batches.get(key)
            if known is not None:
                return known
            operations = {self._command(name)[1] for name in key[1]}
            if len(operations) == 1:
                operation = f"{operation} {operations.pop()}"
            known = {**self._common, DB_OPERATION_NAME: operation}
            if len(self._batches) < _MOST_CACHED:
                self._batches[key] = known
            return known
        except Exception:
            log_once("describing a pipeline failed")
        return {**self._common, DB_OPERATION_NAME: operation}

    def _context(self, server_span: Span, current: Context | None) -> Context | None:
        """Return the context to start a span in; ``None`` if it would not be recorded.

        The parent is the current span, otherwise the request's. An ended parent still counts:
        the work of a thread after the response belongs to its request.
        """
        context = current_context() if current is None else current
        if context is None:
            return None
        parent: Any = context.get(_SPAN_KEY, INVALID_SPAN)
        if not parent.is_recording():
            parent_context = parent.get_span_context()
            if not parent_context.is_valid:
                parent_context = server_span.get_span_context()
                if parent_context.is_valid:
                    parent = server_span
                    context = trace.set_span_in_context(parent, context)
                elif not self._roots_on:
                    return None
            if (
                parent_context.is_valid
                and not parent_context.trace_flags & TraceFlags.SAMPLED
                and not parent_context.is_remote
                and not parent.is_recording()
            ):
                return None
        if context.get(SUPPRESS_KEY) or context.get(SUPPRESS_PLAIN_KEY):
            return None
        return context

    def _command(self, command: object) -> tuple[str, str, dict[str, Any]]:
        """Return a command's span name, operation name and attributes, from a cache."""
        try:
            return self._commands[command]
        except (KeyError, TypeError):
            operation = operation_name(command)
            attributes = {**self._common, DB_OPERATION_NAME: operation}
            known = (f"{self.context_name}.{operation}", operation, attributes)
            if isinstance(command, str) and len(self._commands) < _MOST_CACHED:
                self._commands[command] = known
            return known


def started(
    name: str,
    context: Context,
    attributes: Mapping[str, Any],
    start_time: int | None = None,
    kind: SpanKind = SpanKind.CLIENT,
) -> Span | None:
    """Start a span; ``None`` if it is not recorded.

    It must not become the current span; see :mod:`.fast_spans.qualification`.
    """
    sdk = qualified(tracer)
    if sdk is not None:
        made = start(sdk, name, context, attributes, start_time, kind)
        return made if type(made) is FastSpan else None
    span = tracer.start_span(
        name, context=context, kind=kind, attributes=attributes, start_time=start_time
    )
    return span if span.is_recording() else None


def _procedure(operation: str, args: Sequence[Any]) -> dict[str, str]:
    """Return the attribute for the script or function that a command calls, if it does."""
    if operation in _PROCEDURES and len(args) > 1:
        return {DB_STORED_PROCEDURE_NAME: shown_text(args[1])}
    return {}
