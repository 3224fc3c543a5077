"""Removes acknowledged messages: with XACKDEL where the server has it, else with XDEL and XACK."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from weakref import WeakKeyDictionary

import redis

from ...telemetry.messaging.spans import Settlement
from ..queue_spec import QueueSpec
from ..stream_commands import StreamCommands

# Whether the servers of a pool execute XACKDEL, which is new in Redis 8.2. All queues on a pool,
# such as those of all requests, share the answer.
_has_xackdel: WeakKeyDictionary[Any, bool] = WeakKeyDictionary()


class Removal:
    """Acknowledges and deletes entries of the stream."""

    def __init__(self, spec: QueueSpec, commands: StreamCommands) -> None:
        self._spec = spec
        self._commands = commands
        self._pool = commands.pool

    def remove(self, ids: Sequence[bytes], settlement: Settlement) -> int:
        """Acknowledge and delete entries.

        :param settlement: describes the span.
        :returns: how many of them existed. An entry can exist without being pending: the group was
            deleted and created again, and no consumer has received the entry since.
        :raises redis.RedisError: the server failed.
        """
        spec = self._spec
        if self._can_xackdel():
            command = ("XACKDEL", spec.key, spec.group, "IDS", len(ids), *ids)
            try:
                ((*results,),) = self._commands.send(command, settlement=settlement)
            except redis.ResponseError as error:
                if not _is_refused(error):
                    raise
                # Another node or an older server has taken over, or the account has changed.
                _has_xackdel[self._pool] = False
            else:
                return self._removed(ids, results)
        # XDEL comes first: if the server stops between the two commands, the message is not
        # received again. They are not sent in MULTI, because a server whose memory is full refuses
        # that.
        deleted, acknowledged = self._commands.send(
            ("XDEL", spec.key, *ids), ("XACK", spec.key, spec.group, *ids), name="acknowledge",
            settlement=settlement,
        )  # fmt: skip
        return max(int(deleted), int(acknowledged))

    def _removed(self, ids: Sequence[bytes], results: Sequence[int]) -> int:
        # XACKDEL leaves an entry that is not pending.
        left = [each for each, result in zip(ids, results, strict=True) if result == -1]
        removed = len(ids) - len(left)
        if left:
            (deleted,) = self._commands.send(("XDEL", self._spec.key, *left))
            removed += int(deleted)
        return removed

    def _can_xackdel(self) -> bool:
        """Return whether the server executes XACKDEL. The first call asks it."""
        known = _has_xackdel.get(self._pool)
        if known is None:
            spec = self._spec
            probe = ("XACKDEL", spec.key, spec.group, "IDS", 1, "0-0")  # no entry has this id
            try:
                (reply,) = self._commands.run(lambda ask: ask(probe, errors=True))
            except redis.RedisError:
                return False  # the actual commands show whether the server works
            known = not isinstance(reply, Exception)
            if known or _is_refused(reply):
                _has_xackdel[self._pool] = known
        return known


def _is_refused(error: object) -> bool:
    return isinstance(error, redis.exceptions.NoPermissionError) or (
        "unknown command" in str(error).lower()
    )
