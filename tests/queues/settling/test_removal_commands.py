"""Acknowledged messages are removed with XACKDEL, or with XDEL and XACK."""

from __future__ import annotations

from typing import Any
from unittest.mock import Mock

import pytest
import redis

from pyramid_baseplate_redis.queues.settling.removal import Removal

from ..fakes import ScriptedServer, spec_of

KEY = "{jobs}:messages"
PROBE = ("XACKDEL", KEY, "workers", "IDS", 1, "0-0")
UNKNOWN = redis.ResponseError("unknown command 'XACKDEL', with args beginning with: ")
SETTLEMENT = Mock()


def removal_on(*replies: Any) -> tuple[Removal, ScriptedServer]:
    server = ScriptedServer(*replies)
    commands: Any = server
    return Removal(spec_of(), commands), server


def remove(removal: Removal, *ids: bytes) -> int:
    return removal.remove(ids or (b"1-0", b"2-0"), SETTLEMENT)


def test_the_server_is_asked_once_whether_it_has_the_command() -> None:
    removal, server = removal_on([[-1]], [[1, 1]], [[1, 1]])
    assert (remove(removal), remove(removal)) == (2, 2)
    command = ("XACKDEL", KEY, "workers", "IDS", 2, b"1-0", b"2-0")
    assert server.asked == [PROBE, command, command]
    assert server.calls == [{"errors": True}, *[{"settlement": SETTLEMENT}] * 2]


def test_entries_that_are_not_pending_are_deleted_and_counted_if_they_exist() -> None:
    removal, server = removal_on([[-1]], [[1, -1, 2, -1]], [1])
    assert remove(removal, b"1-0", b"2-0", b"3-0", b"4-0") == 3
    assert server.asked[-1] == ("XDEL", KEY, b"2-0", b"4-0")


def test_a_server_without_the_command_is_not_asked_again() -> None:
    removal, server = removal_on([UNKNOWN], [2, 2], [2, 2])
    assert (remove(removal), remove(removal)) == (2, 2)
    assert [command[0] for command in server.asked] == ["XACKDEL", *["XDEL", "XACK"] * 2]


@pytest.mark.parametrize(("deleted", "acknowledged"), [(2, 0), (0, 2), (1, 2)])
def test_an_entry_counts_if_it_existed_or_was_pending(deleted: int, acknowledged: int) -> None:
    removal, _ = removal_on([UNKNOWN], [deleted, acknowledged])
    assert remove(removal) == 2


def test_an_account_without_the_permission_is_not_asked_again() -> None:
    refused = redis.exceptions.NoPermissionError("this user has no permissions")
    removal, server = removal_on([refused], [2, 2], [2, 2])
    remove(removal)
    remove(removal)
    assert server.asked.count(PROBE) == 1


def test_after_another_error_the_server_is_asked_again() -> None:
    removal, server = removal_on([redis.ResponseError("WRONGTYPE")], [2, 2], [[-1]], [[1, 1]])
    remove(removal)
    remove(removal)
    assert [command[0] for command in server.asked] == ["XACKDEL", "XDEL", "XACK", *["XACKDEL"] * 2]


def test_a_connection_that_fails_when_the_server_is_asked_is_no_answer() -> None:
    removal, server = removal_on(redis.ConnectionError("gone"), [2, 2], [[-1]], [[1, 1]])
    assert (remove(removal), remove(removal)) == (2, 2)
    assert server.asked.count(PROBE) == 2


def test_an_older_server_that_has_taken_over_gets_the_older_commands() -> None:
    removal, server = removal_on([[-1]], UNKNOWN, [2, 2], [2, 2])
    assert (remove(removal), remove(removal)) == (2, 2)
    names = [command[0] for command in server.asked]
    assert names == ["XACKDEL", "XACKDEL", "XDEL", "XACK", "XDEL", "XACK"]


def test_another_error_of_the_command_is_raised() -> None:
    removal, _ = removal_on([[-1]], redis.ReadOnlyError("READONLY"))
    with pytest.raises(redis.ReadOnlyError):
        remove(removal)
