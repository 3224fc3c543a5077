"""What a call leads to, as text that differs where a type or a value does."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import redis

from .entries import FIRST, Entry

Call = Callable[[Any, Entry, bool], str]
"""A way of calling an entry on a client; ``True`` raises the first error of a pipeline."""

_NAMES_CLIENT = re.compile(r"^foo: (.*?)(?: \(127\.0\.0\.1:\d+\))?$", re.DOTALL)
_CLASS = re.compile(r"'\w+' object")
# Of a command that redis-py quotes in an error: one may be a secret.
_ARGUMENTS = re.compile(r"\('([A-Z -]+)', .*\)", re.DOTALL)


def shown(value: Any) -> str:
    """Write a value down with the exact class of everything in it."""
    cls = type(value)
    if cls is list:
        return f"[{', '.join(map(shown, value))}]"
    if cls is tuple:
        return f"({', '.join(map(shown, value))},)"
    if cls is set:  # in no order
        return f"{{{', '.join(sorted(map(shown, value)))}}}"
    if cls is dict:
        pairs = (f"{shown(key)}: {shown(item)}" for key, item in value.items())
        return f"{{{', '.join(pairs)}}}"
    if isinstance(value, BaseException):
        return f"{cls.__module__}.{cls.__qualname__}({_text(value)!r})"
    if isinstance(value, Iterator):
        return f"iterator of {shown(list(value))}"
    if value is None or cls in (str, bytes, int, float, bool, type):
        return repr(value)
    return f"{cls.__module__}.{cls.__qualname__}: {value!r}"


def _text(error: BaseException) -> str:
    """What an error says, without what ours add or leave out on purpose."""
    text = str(error)
    if isinstance(error, AttributeError):
        return _CLASS.sub("'...' object", text)
    if isinstance(error, redis.ConnectionError):
        return _NAMES_CLIENT.sub(r"\1", text)
    if isinstance(error, redis.exceptions.RedisClusterException):
        return _ARGUMENTS.sub(r"('\1', ...)", text)
    return text


def kinds(value: Any) -> Any:
    """Put the class of each value in its place, and leave keys and structure."""
    if type(value) is dict:
        return {key: kinds(item) for key, item in value.items()}
    if type(value) in (list, tuple):
        return type(value)(kinds(item) for item in value)
    return type(value)


def sorted_kinds(value: Any) -> Any:
    """As :func:`kinds`, where the server decides on the order of the keys."""
    return {key: kinds(value[key]) for key in sorted(value)}


def kinds_of_items(value: Any) -> Any:
    """The kinds that occur in a list, whose length differs by nature."""
    return type(value), {shown(kinds(item)) for item in value}


def in_order(value: Any) -> Any:
    """A list whose order the server decides on."""
    return type(value), sorted(map(shown, value))


def alone(client: Any, entry: Entry, raise_on_error: bool = False) -> str:
    """Call the method of a client; what it raises is its outcome."""
    return outcome(lambda: entry.normalized(entry.run(client)))


def in_pipeline(client: Any, entry: Entry, raise_on_error: bool = False) -> str:
    """Call it on a pipeline, between two other commands."""
    return _piped(client, entry, False, raise_on_error)


def in_transaction(client: Any, entry: Entry, raise_on_error: bool = False) -> str:
    """Call it on a pipeline that is executed as MULTI ... EXEC."""
    return _piped(client, entry, True, raise_on_error)


def _piped(client: Any, entry: Entry, transaction: bool, raise_on_error: bool) -> str:
    def executed() -> Any:
        with client.pipeline(transaction=transaction) as pipeline:
            pipeline.set(FIRST, 1)
            at_once = entry.run(pipeline)
            pipeline.get(FIRST)
            results = pipeline.execute(raise_on_error=raise_on_error)
        if at_once is not pipeline:
            results = [("returned at once", at_once), *results]
        return [
            entry.normalized(item) if number == 1 and not isinstance(item, Exception) else item
            for number, item in enumerate(results)
        ]

    return outcome(executed)


def outcome(run: Callable[[], Any]) -> str:
    """Write down what a function returns or raises."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # redis-py's, about deprecated methods
            return shown(run())
    except Exception as error:
        return f"raises {shown(error)}"
