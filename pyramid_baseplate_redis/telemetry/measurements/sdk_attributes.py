"""Attributes as the SDK keeps them, cleaned and hashed by its own functions.

Like :mod:`.sdk_recorder`, this module uses private names of the SDK.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

from opentelemetry.context import Context
from opentelemetry.sdk.metrics._internal import _view_instrument_match
from opentelemetry.sdk.metrics._internal.measurement import Measurement as SdkMeasurement
from opentelemetry.util.types import AttributeValue

_PLAIN_TYPES = frozenset({bool, int, str})  # those of the package's attributes
_MOST_KNOWN = 1000
_NO_INSTRUMENT: Any = None


def _old_key(attributes: Mapping[str, AttributeValue]) -> Hashable:
    return frozenset(attributes.items())  # the key in releases before 1.45


_key: Any = getattr(_view_instrument_match, "_hash_attributes", _old_key)


class KnownAttributes:
    """Attributes, and the keys under which the SDK finds their aggregations.

    :param cleaned: the attributes of the SDK's measurement.
    """

    def __init__(self, cleaned: Mapping[str, AttributeValue]) -> None:
        self.cleaned = cleaned
        self._keys: dict[frozenset[str] | None, Hashable] = {}

    def key(self, kept: frozenset[str] | None) -> Hashable:
        """Return the key for a view that keeps some of the attributes, or all for ``None``."""
        try:
            return self._keys[kept]
        except KeyError:
            key: Hashable = _key(
                {
                    name: value
                    for name, value in self.cleaned.items()
                    if kept is None or name in kept
                }
            )
            self._keys[kept] = key
            return key


_known: dict[Hashable, KnownAttributes] = {}


def known_attributes(attributes: Mapping[str, AttributeValue]) -> KnownAttributes | None:
    """Return attributes as the SDK keeps them; ``None`` if one is not of a plain type."""
    # The types are part of the key because True equals 1 and is another attribute.
    types = tuple(map(type, attributes.values()))
    if not _PLAIN_TYPES.issuperset(types):
        return None
    key = tuple(attributes.items()), types
    known = _known.get(key)
    if known is None:
        if any(type(name) is not str for name in attributes):
            return None
        # It cleans them without a look at the other fields.
        cleaned = SdkMeasurement(0, 0, _NO_INSTRUMENT, Context(), dict(attributes)).attributes
        known = KnownAttributes(cleaned or {})
        if len(_known) < _MOST_KNOWN:
            _known[key] = known
    return known
