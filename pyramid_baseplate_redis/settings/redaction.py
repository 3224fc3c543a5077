"""Types that keep secrets out of ``repr()``, ``dataclasses.asdict()`` and pickles."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NoReturn, SupportsIndex, TypeVar

_Self = TypeVar("_Self")


class Secret(str):
    """Text that neither ``repr()`` nor ``dataclasses.asdict()`` shows, and that is not pickled.

    It is a string, so redis-py and OpenSSL take it as it is.
    """

    __slots__ = ()

    def __repr__(self) -> str:
        return "'***'"

    def __deepcopy__(self, memo: object) -> str:
        return "***"  # dataclasses.asdict() copies each value of a field like this

    def __reduce_ex__(self, protocol: SupportsIndex) -> NoReturn:
        raise TypeError("a secret cannot be pickled")


class KeywordArguments(Mapping[str, Any]):
    """The keyword arguments of a pool, of which ``dataclasses.asdict()`` shows only the names.

    Their values may be secrets, or objects that contain some.
    """

    def __init__(self, arguments: Mapping[str, Any]) -> None:
        self._arguments = dict(arguments)

    def __getitem__(self, name: str) -> Any:
        return self._arguments[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._arguments)

    def __len__(self) -> int:
        return len(self._arguments)

    def __repr__(self) -> str:
        return repr(self.__deepcopy__(None))

    def __deepcopy__(self, memo: object) -> dict[str, str]:
        return dict.fromkeys(self._arguments, "***")


class NotPickled:
    """A base of immutable objects that may contain secrets; their copies are the objects."""

    __slots__ = ()

    def __copy__(self: _Self) -> _Self:
        return self

    def __deepcopy__(self: _Self, memo: object) -> _Self:
        return self

    def __reduce_ex__(self, protocol: SupportsIndex) -> NoReturn:
        raise TypeError(
            f"{type(self).__name__} cannot be pickled: it may contain a password. Pass on the "
            "application's settings, and read them again."
        )
