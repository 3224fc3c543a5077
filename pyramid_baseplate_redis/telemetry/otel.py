"""The tracer, whether providers are set, suppression: OpenTelemetry's private names."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from typing import Any

import redis
from opentelemetry import context as otel_context
from opentelemetry import metrics, trace
from opentelemetry.context import _SUPPRESS_INSTRUMENTATION_KEY

logger = logging.getLogger(__package__)

SUPPRESS_KEY = _SUPPRESS_INSTRUMENTATION_KEY
SUPPRESS_PLAIN_KEY = "suppress_instrumentation"  # the older of the two keys in use


tracer = trace.get_tracer("pyramid_baseplate_redis")


def has_tracer_provider() -> bool:
    """Whether a tracer provider is set; without one, that is without an SDK, nothing is recorded.

    Private to OpenTelemetry's API: what is public looks into ``os.environ`` each time, which costs
    more than all the rest. Should it go away, the tracer's own no-op decides.
    """
    return getattr(trace, "_TRACER_PROVIDER", tracer) is not None


def status_code(error: BaseException) -> str | None:
    """The first word of a server's error, such as ``WRONGTYPE``; ``None`` if it isn't one."""
    if not isinstance(error, redis.RedisError):
        return None
    if error.status_code is not None:
        return error.status_code
    if not isinstance(error, redis.ResponseError) or not error.args:
        return None
    word = str(error.args[0]).partition(" ")[0]
    return word if word.isascii() and word.isalpha() and word.isupper() else None


def is_suppressed() -> bool:
    """Whether nothing is to be told of what happens here and now."""
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
    cls = type(error)
    return (
        cls.__qualname__ if cls.__module__ == "builtins" else f"{cls.__module__}.{cls.__qualname__}"
    )


_logged: set[str] = set()


def log_once(message: str) -> None:
    """Telemetry never breaks the application; but a broken exporter is told of, once."""
    if message not in _logged:
        _logged.add(message)
        logger.exception("%s; this is told once", message)


class _AnyProvider:
    _METER_PROVIDER = True


# Looked up once: a command asks several times.
_api: Any = getattr(metrics, "_internal", None)
if not hasattr(_api, "_METER_PROVIDER"):
    _api = _AnyProvider


def has_meter_provider() -> bool:
    """Return whether a meter provider is set; without an SDK none is, and nothing is recorded.

    Private to OpenTelemetry's API, as in :func:`has_tracer_provider`. Should the name go away, the
    instruments' own no-op decides.
    """
    return _api._METER_PROVIDER is not None
