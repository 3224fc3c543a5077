"""Keys that many workers read and write, whose history has to be that of a register."""

from __future__ import annotations

import random
import time
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import redis

from pyramid_baseplate_redis.exceptions import is_retryable, lost_reply

from ...histories.recording import Call, History
from ...histories.register import check
from .tags import TAGS

SECONDS = 2.0
KEYS = 4  # of each tag, at a time


class Registers:
    """The keys of a hunt, which are used for two seconds each."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._history = History()

    def choose(self, chance: random.Random) -> str:
        """Return a key that is used now."""
        turn = int(time.monotonic() / SECONDS)
        return f"{chance.choice(TAGS)}-register-{self._name}-{turn}-{chance.randrange(KEYS)}"

    def read(self, client: Any, process: str, key: str) -> bytes | None:
        """Read a key by a client or by a pipeline that watches."""
        call = self._history.call(process, key, "read")
        value: bytes | None = client.get(key)
        call.returned(value)
        return value

    def write(self, client: Any, process: str, key: str, value: bytes) -> None:
        """Write a value that no other worker writes."""
        call = self._history.call(process, key, "write", value)
        try:
            client.set(key, value)
        except redis.RedisError as error:
            # Otherwise, and if it is interrupted, the server may have executed it or may do so yet.
            call.failed(error, definite=is_retryable(error) is True)
            raise
        call.returned()

    def replace(self, client: Any, process: str, key: str, value: bytes) -> None:
        """Read a value, and replace it unless another worker was faster."""
        pipeline = client.pipeline(transaction=True)
        pipeline.watch(key)
        before = self.read(pipeline, process, key)
        pipeline.multi()
        pipeline.set(key, value)
        call = self._history.call(process, key, "compare_and_set", (before, value))
        try:
            pipeline.execute()
        except redis.WatchError as error:
            if lost_reply(error) is None:
                call.returned(False)
            raise
        call.returned(True)

    def check(self, losses: Sequence[tuple[int, int]]) -> tuple[int, list[str]]:
        """Return how many calls were checked, and what no order of them explains.

        :param losses: the times in which acknowledged writes may have been lost. Keys that were
            used meanwhile are left out.
        """
        keys: dict[str, list[Call]] = defaultdict(list)
        for call in self._history.calls:
            keys[call.key].append(call)
        checked = [calls for calls in keys.values() if not _overlaps(calls, losses)]
        found = [str(violation) for calls in checked for violation in check(calls)]
        return sum(map(len, checked)), found


def _overlaps(calls: list[Call], losses: Sequence[tuple[int, int]]) -> bool:
    first = min(call.began for call in calls)
    last = max(call.ended or call.began for call in calls)
    return any(start < last and first < end for start, end in losses)
