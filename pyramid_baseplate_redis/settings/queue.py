"""QueueSettings: what the ``jobs.*`` keys of an .ini file say about one message queue. No I/O."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from ..exceptions import ConfigurationError
from . import parsers
from .fields import PACKAGE_PREFIX, own_keys, parsed, setting, unknown_key


@dataclass(frozen=True)
class QueueSettings:
    """The settings of one message queue, checked and with every default filled in."""

    queue: str | None = setting(parsers.text)  # the client's name
    durable: bool = setting(parsers.boolean, False)
    group: str = setting(parsers.text, "workers")
    lease: timedelta = setting(parsers.positive_timespan, timedelta(seconds=30))
    max_attempts: int = setting(parsers.whole_number(1, 1_000_000), 5)
    max_length: int | None = setting(parsers.whole_number(1, 2**53))
    delay: timedelta = setting(parsers.Timespan, timedelta(0))
    trace_parent: bool = setting(parsers.boolean, False)

    @classmethod
    def from_config(
        cls, app_config: Mapping[str, Any], name: str, given: Mapping[str, Any]
    ) -> QueueSettings:
        """Read the settings ``<name>.*``.

        They are a queue's if one of them is called like a setting here: a queue that is declared in
        code may share its prefix with somebody else.

        :param given: what the application says in code, which wins.
        :raises ConfigurationError: if a key is unknown, a value is malformed, or settings of a
            durable queue are those of another one.
        """
        prefix = f"{name}."
        found = dict(own_keys(app_config, prefix))
        values: dict[str, Any] = {}
        if not PARSERS.keys().isdisjoint(found):
            for key, raw in found.items():
                if key not in PARSERS:
                    raise ConfigurationError(_unknown(prefix, key))
                values[key] = parsed(prefix, key, PARSERS[key], raw)
        values |= {key: parsed(prefix, key, PARSERS[key], raw) for key, raw in given.items()}
        settings = cls(**values)
        for key in sorted(values.keys() - {"queue", "durable"}):
            if not settings.durable:
                raise ConfigurationError(
                    f"{prefix}{key}: is about durable queues; write {prefix}durable = true, or "
                    "leave it out"
                )
        if settings.delay > settings.lease:
            raise ConfigurationError(
                f"{prefix}delay: is longer than {prefix}lease, {settings.lease}; a message that "
                "failed can't be kept back for longer"
            )
        return settings

    @property
    def options(self) -> dict[str, Any]:
        """The keyword arguments of :class:`.DurableMessageQueue`."""
        own = dataclasses.asdict(self)
        return {key: value for key, value in own.items() if key not in ("queue", "durable")}

    def shown(self) -> dict[str, object]:
        """What Pyramid's introspection shows; there are no secrets."""
        return {"durable": True, **self.options} if self.durable else {}


PARSERS: dict[str, Callable[[Any], Any]] = {
    item.name: item.metadata["parse"] for item in dataclasses.fields(QueueSettings)
}


def _unknown(prefix: str, key: str) -> str:
    text = unknown_key(prefix, key, list(PARSERS)).partition(" (if ")[0]
    return (
        f"{text} (if {prefix}* belongs to something else, name the queues in "
        f"{PACKAGE_PREFIX}queues and no other prefix is read)"
    )


def discovered_queues(
    app_config: Mapping[str, Any], named: Collection[str] | None, clients: Collection[str]
) -> list[str]:
    """The names of the queues that the settings declare, sorted.

    :param named: those in ``baseplate_redis.queues``. Without it every ``<identifier>.queue`` whose
        value is the name of a Redis client; any other value is somebody else's, unless
        ``<identifier>.durable`` is there.
    :param clients: the names of all Redis clients.
    :raises ConfigurationError: if a named queue has no ``<name>.queue``.
    """
    if named is not None:
        for name in named:
            if name and f"{name}.queue" not in app_config:
                raise ConfigurationError(
                    f"{name}.queue: is missing; write the name of the queue's Redis client"
                )
        return sorted({name for name in named if name})
    names = set()
    for key, value in app_config.items():
        name, _, rest = key.rpartition(".") if isinstance(key, str) else ("",) * 3
        is_queue = name.isidentifier() and rest == "queue"
        if is_queue and (_stripped(value) in clients or f"{name}.durable" in app_config):
            names.add(name)
    return sorted(names)


def _stripped(value: Any) -> Any:
    return value.strip() if isinstance(value, str) else None
