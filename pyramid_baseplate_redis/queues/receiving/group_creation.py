"""Creates a durable queue's consumer group, also in place of one that was deleted."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ...exceptions import REDIRECTION_ERRORS
from ..inspection import position_of
from ..queue_spec import QueueSpec
from ..raw_commands import Command, RawCommands, is_no_group
from ..stream_commands import StreamCommands

_PAGE = 100


def create_group(spec: QueueSpec, commands: StreamCommands) -> None:
    """Create the consumer group, unless it exists.

    Its consumers receive all messages of the stream, also those that a group has received that was
    deleted. Messages that waited are received again at once, as their attempts are counted from the
    start. Entries that dead letters point at are not received.

    :raises redis.RedisError: the server failed.
    """

    def create(ask: RawCommands) -> None:
        # While a Cluster moves the slot, another node may have the set already. Then a message that
        # waits there may be received twice.
        groups, members, size = ask(
            ("XINFO", "GROUPS", spec.key),
            ("ZRANGE", spec.waiting_key, "+inf", "+inf", "BYSCORE"), ("ZCARD", spec.waiting_key),
            errors=True, later_redirections=True,
        )  # fmt: skip
        if isinstance(groups, Exception):
            if not is_no_group(groups):
                raise groups
            groups = []  # there is no stream yet
        if spec.group in map(_name_of, groups):
            ask(("UNWATCH",))
            return
        for reply in (members, size):
            if isinstance(reply, REDIRECTION_ERRORS):
                members, size = [], 0
                break
            if isinstance(reply, Exception):
                raise reply
        left = sorted((member.partition(b"|")[0] for member in members), key=position_of)
        start = left[-1] if left else "0"
        ids = [entry_id for page in _pages(ask, spec.key, left) for entry_id in page]
        # The group cannot skip an entry, and reading it would send its body. Therefore the group
        # starts after the last of them, and the entries before are pending with an expired lease.
        claims: list[Command] = [
            ("XCLAIM", spec.key, spec.group, spec.consumer, 0, *ids[first : first + _PAGE],
             "IDLE", spec.lease_ms, "RETRYCOUNT", 0, "FORCE", "JUSTID")
            for first in range(0, len(ids), _PAGE)
        ]  # fmt: skip
        if size > len(left):
            claims.append(("ZREMRANGEBYSCORE", spec.waiting_key, "-inf", "(+inf"))
        ask.transaction((*_CREATE, spec.key, spec.group, start, "MKSTREAM"), *claims)

    shown: list[Command] = [(*_CREATE, spec.key, spec.group, "0", "MKSTREAM")]
    commands.watching(spec.key, "create_group", shown, create)


_CREATE = ("XGROUP", "CREATE")


def _pages(ask: RawCommands, key: str, left: list[bytes]) -> Iterator[list[bytes]]:
    """Yield the identifiers of the entries before the last one in ``left``, without those in it."""
    start = b"-"
    for each in left:
        while True:
            (entries,) = ask(("XRANGE", key, start, b"(" + each, "COUNT", _PAGE))
            yield [entry[0] for entry in entries]
            if len(entries) < _PAGE:
                break
            start = b"(" + entries[-1][0]
        start = b"(" + each


def _name_of(group: Any) -> str:
    found = group if isinstance(group, dict) else dict(zip(group[::2], group[1::2], strict=True))
    return str(found[b"name"].decode("utf-8", "replace"))
