"""Execute a pipeline's commands directly, with redis-py's results and errors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import redis
from redis.client import EMPTY_RESPONSE, NEVER_DECODE, Pipeline

from ..pool.connection import TRANSACTION
from ..pool.direct.packing import DIRECT_COMMANDS

_parse_response = Pipeline.parse_response
Command = tuple[Sequence[Any], dict[str, Any]]  # arguments and options, as redis-py queues them


def is_direct(pipeline: Pipeline, connection: Any, commands: Sequence[Command]) -> bool:
    """Return whether redis-py would do no more for these commands than the functions below.

    :param pipeline: the pipeline that queued the commands.
    :param connection: its connection.
    """
    return (
        getattr(connection, "is_direct", False)
        and type(pipeline).parse_response is _parse_response
        and connection.has_current_fieldsets
        and all(
            args[0] in DIRECT_COMMANDS
            and (not options or not (NEVER_DECODE in options or EMPTY_RESPONSE in options))
            for args, options in commands
        )
    )


def execute_pipeline(
    pipeline: Pipeline, connection: Any, commands: Sequence[Command], raise_on_error: bool
) -> list[Any]:
    """Do the same as redis-py's ``_execute_pipeline``."""
    replies: list[Any] = connection.ask_all([args for args, _ in commands])
    _apply_callbacks(pipeline, commands, replies, returned=redis.ResponseError)
    if raise_on_error:
        pipeline.raise_first_error(commands, replies)
    return replies


def execute_transaction(
    pipeline: Pipeline, connection: Any, commands: Sequence[Command], raise_on_error: bool
) -> list[Any]:
    """Do the same as redis-py's ``_execute_transaction``."""
    sent = [("MULTI",), *(args for args, _ in commands), ("EXEC",)]
    begun, *queued, reply = connection.ask_all(sent, TRANSACTION)
    errors: list[tuple[int, Any]] = []
    if isinstance(begun, redis.ResponseError):
        errors.append((0, begun))
    for position, error in enumerate(queued):
        if isinstance(error, redis.ResponseError):
            pipeline.annotate_exception(error, position + 1, commands[position][0])
            errors.append((position, error))
    if isinstance(reply, redis.ResponseError):
        try:
            raise reply
        except redis.exceptions.ExecAbortError:
            if errors:
                raise errors[0][1]  # noqa: B904  # implicitly, as in redis-py
            raise
    pipeline.watching = False  # EXEC ends the watching
    if reply is None:
        raise redis.WatchError("Watched variable changed.")
    results: list[Any] = reply
    for position, error in errors:
        results.insert(position, error)
    if len(results) != len(commands):
        connection.disconnect()
        raise redis.ResponseError("Wrong number of response items from pipeline execution")
    if raise_on_error:
        pipeline.raise_first_error(commands, results)
    _apply_callbacks(pipeline, commands, results)
    return results


def _apply_callbacks(
    pipeline: Pipeline,
    commands: Sequence[Command],
    replies: list[Any],
    returned: type[Exception] | tuple[()] = (),
) -> None:
    """Replace each reply that is not an error by the result of its command's callback.

    :param returned: the errors of a callback that take the place of its result.
    """
    callbacks = pipeline.response_callbacks
    for position, (args, options) in enumerate(commands):
        reply = replies[position]
        if isinstance(reply, Exception):
            continue
        options.pop("keys", None)  # for redis-py's cache
        callback = dict.get(callbacks, args[0])
        if callback is not None:
            try:
                replies[position] = callback(reply, **options)
            except returned as error:
                replies[position] = error
