"""The tracer, the meter, checks for providers and suppression.

OpenTelemetry's private names are used here, in :mod:`.fast_spans` and in the modules of
:mod:`.measurements` whose names start with ``sdk_``, and nowhere else.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import redis
from opentelemetry import context as otel_context
from opentelemetry import metrics, trace
from opentelemetry.context import _SUPPRESS_INSTRUMENTATION_KEY, Context
from opentelemetry.context.contextvars_context import ContextVarsRuntimeContext

from .semantic_conventions import SCHEMA_URL

logger = logging.getLogger(__package__)

SUPPRESS_KEY = _SUPPRESS_INSTRUMENTATION_KEY
SUPPRESS_PLAIN_KEY = "suppress_instrumentation"  # the older of the two keys in use
_PACKAGE = "pyramid_baseplate_redis"


try:
    _own_version = version(_PACKAGE)
except PackageNotFoundError:  # a copy of the source that is not installed
    _own_version = ""
tracer = trace.get_tracer(_PACKAGE, _own_version, schema_url=SCHEMA_URL)
meter = metrics.get_meter(_PACKAGE, _own_version, schema_url=SCHEMA_URL)


def current_context() -> Context | None:
    """Return the current context; ``None`` if no tracer provider is set."""
    return _get_current() if getattr(trace, "_TRACER_PROVIDER", tracer) is not None else None


def _reader_of(runtime: object) -> Callable[[], Context]:
    """Return the function that the public ``get_current()`` looks up for each call.

    :param runtime: the object in which OpenTelemetry keeps the current context.
    """
    if type(runtime) is ContextVarsRuntimeContext:
        variable = getattr(runtime, "_current_context", None)
        if isinstance(variable, ContextVar):
            return variable.get  # all that its get_current() does
    return getattr(runtime, "get_current", otel_context.get_current)


_get_current = _reader_of(getattr(otel_context, "_RUNTIME_CONTEXT", None))


def has_tracer_provider() -> bool:
    """Return whether a tracer provider is set; without an SDK none is, and nothing is recorded.

    It reads a private name of OpenTelemetry's API, since the public function reads ``os.environ``
    each time, which costs more than everything else. If the name goes away, the tracer's own no-op
    decides.
    """
    return getattr(trace, "_TRACER_PROVIDER", tracer) is not None


def status_code(error: BaseException) -> str | None:
    """Return a server's error code, such as ``WRONGTYPE``; ``None`` for other errors."""
    if not isinstance(error, redis.RedisError):
        return None
    if error.status_code is not None:
        return error.status_code
    if not isinstance(error, redis.ResponseError) or not error.args:
        return None
    word = str(error.args[0]).partition(" ")[0]
    return word if word.isascii() and word.isalpha() and word.isupper() else None


def is_suppressed() -> bool:
    """Return whether the current context suppresses telemetry."""
    context = otel_context.get_current()
    return bool(context.get(SUPPRESS_KEY) or context.get(SUPPRESS_PLAIN_KEY))


@contextlib.contextmanager
def suppressed() -> Iterator[None]:
    """Record neither spans nor metrics of the Redis commands that are sent in this block.

    OpenTelemetry's own instrumentation of redis-py obeys the same key.
    """
    token = otel_context.attach(otel_context.set_value(SUPPRESS_KEY, True))
    try:
        yield
    finally:
        otel_context.detach(token)


def error_type(error: BaseException) -> str:
    """Return the value of ``error.type`` for an error without a code: its class's full name.

    An error that a server sent has its code instead; see :func:`status_code`.
    """
    cls = type(error)
    return (
        cls.__qualname__ if cls.__module__ == "builtins" else f"{cls.__module__}.{cls.__qualname__}"
    )


_logged: set[str] = set()


def log_once(message: str) -> None:
    """Log the current exception of telemetry, which must not break the application, once.

    :param message: the operation that failed; it is logged once per process.
    """
    if message not in _logged:
        _logged.add(message)
        logger.exception("%s; this is logged only once", message)


class _AnyProvider:
    _METER_PROVIDER = True


# Looked up once, since a command checks it several times.
_api: Any = getattr(metrics, "_internal", None)
if not hasattr(_api, "_METER_PROVIDER"):
    _api = _AnyProvider


def has_meter_provider() -> bool:
    """Return whether a meter provider is set; without an SDK none is, and nothing is recorded.

    It reads a private name of OpenTelemetry's API, like :func:`has_tracer_provider`. If the name
    goes away, the instruments' own no-op decides.
    """
    return _api._METER_PROVIDER is not None
