"""QueueSettings: the ``jobs.*`` keys of an .ini file, checked, for one message queue. No I/O."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from ..exceptions import ConfigurationError
from . import parsers
from .fields import PACKAGE_PREFIX, own_keys, parsed_all, setting, settings_of, unknown_key

#: The waits after the first, the second, ... failed attempt, and the number of attempts with them.
BACKOFF = tuple(timedelta(seconds=seconds) for seconds in (1, 5, 30, 120, 600))
BACKOFF_ATTEMPTS = len(BACKOFF) + 1
MAX_ATTEMPTS = 5  #: the number of attempts with other waits


@dataclass(frozen=True)
class QueueSettings:
    """The settings of one message queue, checked and with every default filled in."""

    queue: str | None = setting(parsers.text)  # the client's name
    """The name of a client. Declares the message queue ``request.jobs`` on that client."""
    durable: bool = setting(parsers.boolean, False)
    """Make the queue a durable one. The other settings of queues are for durable queues only."""
    group: str = setting(parsers.text, "workers")
    """The name of the consumer group."""
    lease: timedelta = setting(parsers.positive_timespan, timedelta(seconds=30))
    """The time for which a consumer may work on a message before another one receives it."""
    max_attempts: int = setting(parsers.whole_number(1, 1_000_000), BACKOFF_ATTEMPTS)
    """The number of times that a message is received before it becomes a dead letter. The default
    is 5 if ``jobs.backoff`` or ``jobs.delay`` is set.
    """
    max_length: int | None = setting(parsers.whole_number(1, 2**53))
    """The most messages that the queue may have. When it is full, ``put`` raises
    ``QueueFullError``. There is no limit by default.
    """
    backoff: tuple[timedelta, ...] | None = setting(parsers.timespans, BACKOFF)
    """The waits of a failed message before it can be received again, after its first failure, its
    second one, and so on. After further failures it waits as after the last of them. Each wait is
    changed at random by up to a fifth. Write ``none`` if it should not wait.
    """
    delay: timedelta | None = setting(parsers.Timespan)  # instead of ``backoff``
    """The wait of a failed message, instead of ``jobs.backoff``: the same time after each
    failure.
    """
    keep_errors: str = setting(parsers.choice("all", "class"), "all")
    """``all`` keeps the last error's class, text and traceback in a dead letter, in at most 4 kB.
    ``class`` keeps only the class; choose it if the texts of your errors can contain secrets.
    """
    trace_parent: bool = setting(parsers.boolean, False)
    """Make the span of processing a child of the sender's span, in the same trace, instead of
    linked to it.
    """
    base_url: str | None = setting(parsers.http_url)  # of the requests that a worker makes
    """The beginning of the URLs that the request of a worker makes, such as
    ``https://example.com``. By default they begin with ``http://localhost``.
    """

    @classmethod
    def from_config(
        cls, app_config: Mapping[str, Any], name: str, given: Mapping[str, Any]
    ) -> QueueSettings:
        """Read the settings ``<name>.*``.

        They are read only if one of them is a field of this class: a queue that is declared in code
        may share its prefix with another library.

        :param app_config: all settings of the application.
        :param name: the queue's name.
        :param given: values that the application passes in code; they override the settings.
        :raises ConfigurationError: a key is unknown, a value is malformed, ``delay`` and
            ``backoff`` are both set, or a queue that is not durable has settings of durable ones.
        """
        prefix = f"{name}."
        found = dict(own_keys(app_config, prefix))
        if QUEUE_SETTINGS.keys().isdisjoint(found):
            found = {}
        for key in found:
            if key not in QUEUE_SETTINGS:
                raise ConfigurationError(_unknown(prefix, key))
        values = parsed_all(prefix, found, QUEUE_SETTINGS) | parsed_all(
            prefix, given, QUEUE_SETTINGS
        )
        if {"delay", "backoff"} <= values.keys():
            raise ConfigurationError(
                f"{prefix}delay: contradicts {prefix}backoff, which also says how long a failed "
                "message waits; leave one of them out"
            )
        own = values.keys() - {"queue", "durable"}
        if "delay" in values:
            values["backoff"] = None
        values.setdefault("max_attempts", default_attempts(values.get("backoff", BACKOFF)))
        settings = cls(**values)
        for key in sorted(own):
            if not settings.durable:
                raise ConfigurationError(
                    f"{prefix}{key}: needs a durable queue; write {prefix}durable = true, or leave "
                    "it out"
                )
        return settings

    @property
    def options(self) -> dict[str, Any]:
        """The settings as keyword arguments of :class:`.DurableMessageQueue`."""
        own = dataclasses.asdict(self)
        return {key: value for key, value in own.items() if key not in _NOT_THE_QUEUES}

    def shown(self) -> dict[str, object]:
        """Return the settings for Pyramid's introspection; none is secret."""
        return {"durable": True, **self.options} if self.durable else {}


def default_attempts(backoff: Sequence[timedelta | float] | None) -> int:
    """Return how often a message is received if ``max_attempts`` is not set."""
    return BACKOFF_ATTEMPTS if backoff == BACKOFF else MAX_ATTEMPTS


# A queue does not need these itself.
_NOT_THE_QUEUES = frozenset({"queue", "durable", "base_url"})
QUEUE_SETTINGS = settings_of(QueueSettings)


def _unknown(prefix: str, key: str) -> str:
    text = unknown_key(prefix, key, list(QUEUE_SETTINGS)).partition(" (if ")[0]
    return (
        f"{text} (if {prefix}* belongs to something else, list the queues in "
        f"{PACKAGE_PREFIX}queues; then no other prefix is read)"
    )
