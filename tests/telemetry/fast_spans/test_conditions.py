"""The releases of the SDK, and the form of its attributes, for which spans are made faster."""

from __future__ import annotations

from types import FunctionType, ModuleType, SimpleNamespace
from typing import Any

import pytest
from opentelemetry.sdk import version

from pyramid_baseplate_redis.telemetry.fast_spans.qualification import (
    SdkTracer,
    _holds_attributes_in_a_dict,
    _is_of_module,
)

from ...support.fast_spans import Recorder, only_fast


@only_fast
@pytest.mark.parametrize(
    ("release", "is_fast"),
    [("1.41.9", False), ("0.99.0", False), ("1.42.0", True), ("1.50.0rc1", True), ("2.0.0", True)],
)
def test_releases_from_1_42_on_qualify(
    monkeypatch: pytest.MonkeyPatch, release: str, is_fast: bool
) -> None:
    monkeypatch.setattr(version, "__version__", release)
    assert SdkTracer(Recorder(True).tracer).qualifies is is_fast


class Bounded:
    """Attributes as the SDK holds them."""

    kind: Any = dict
    extra: Any = None

    def __init__(self, most: int, given: Any, *, immutable: bool) -> None:
        self.most, self.dropped, self._lock = most, 0, object()
        self._dict = self.kind(given or {})
        self.__dict__.update(self.extra or {})
        if immutable:
            self.dropped = -1
        if given:
            self._changed()

    def _changed(self) -> None:
        pass


class OtherDict(Bounded):
    class kind(dict):  # type: ignore[type-arg]  # noqa: N801
        pass


class Converting(Bounded):
    def _changed(self) -> None:
        self._dict["number"] = "1"


class Counting(Bounded):
    def _changed(self) -> None:
        self.dropped = 1


class WithMore(Bounded):
    def _changed(self) -> None:
        self.cache = {}  # type: ignore[var-annotated]


class WithLess(Bounded):
    def _changed(self) -> None:
        del self.dropped


class Reversing(Bounded):
    def _changed(self) -> None:
        self._dict = dict(reversed(self._dict.items()))


@pytest.mark.parametrize(
    ("bounded", "expected"),
    [
        (Bounded, True), (OtherDict, False), (Converting, False), (Counting, False),
        (WithMore, False), (WithLess, False), (Reversing, False),
    ],
)  # fmt: skip
def test_attributes_are_put_into_a_dict_of_the_sdk_if_it_does_no_more(
    bounded: Any, expected: bool
) -> None:
    limits = SimpleNamespace(max_span_attributes=128)
    assert _holds_attributes_in_a_dict(bounded, limits) is expected


def test_a_method_is_of_its_module_if_it_is_a_function_that_was_defined_there() -> None:
    module, other = ModuleType("module"), ModuleType("other")

    def method() -> None:
        pass

    theirs = FunctionType(method.__code__, vars(module))
    assert _is_of_module(theirs, module)
    assert not _is_of_module(theirs, other)
    assert not _is_of_module(SimpleNamespace(__globals__=vars(module)), module)
