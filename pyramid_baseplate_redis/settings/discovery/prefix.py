"""The settings of each prefix, and what may be wrong with them."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import timedelta
from typing import Any, NamedTuple

from .. import parsers
from ..client import SETTINGS
from ..fields import attempt
from ..url_settings import ReadURL

# Keys that no other library is known to have.
_ONLY_OURS = frozenset({
    "leak_warning", "retry_budget", "breaker_failures", "breaker_reset", "trace_query_text",
    "trace_exclude", "trace_min_duration", "track_key_reads_sample_rate",
    "track_key_writes_sample_rate", "sentinel_password_file", "min_other_sentinels",
    "require_full_coverage",
})  # fmt: skip


class Mistake(NamedTuple):
    """A message that starts with a key, and whether the key is clearly a client's."""

    message: str
    is_error: bool


class Prefix(NamedTuple):
    """A prefix whose settings declare no client.

    ``given`` has the values by the part of the key after the prefix and its dot. ``clients`` are
    the names of all clients.
    """

    name: str
    given: dict[str, Any]
    clients: Collection[str]
    read_url: ReadURL

    @property
    def only_ours(self) -> list[str]:
        """The keys that only this package has; a time with a unit is one."""
        return [
            key
            for key, value in self.given.items()
            if key in _ONLY_OURS or (_is_time(key) and not attempt(parsers.Timespan, value)[1])
        ]


def _is_time(key: str) -> bool:
    return key in SETTINGS and isinstance(SETTINGS[key].default, timedelta)


def settings_by_prefix(app_config: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the settings by the part of the key before its last dot, and by the part after it."""
    found: dict[str, dict[str, Any]] = {}
    for key, value in app_config.items():
        prefix, _, rest = key.rpartition(".") if isinstance(key, str) else ("",) * 3
        if prefix:
            found.setdefault(prefix, {})[rest] = value
    return found
