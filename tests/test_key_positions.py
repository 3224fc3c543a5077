"""The table of key positions, compared with what real servers say about their commands."""

from __future__ import annotations

from typing import Any

import pytest
import redis

from pyramid_baseplate_redis.command_table import KEY_POSITIONS

from .support.servers import Server


@pytest.fixture
def commands(server: Server) -> dict[str, list[Any]]:
    return commands_of(server)


def commands_of(server: Server) -> dict[str, list[Any]]:
    """The server's COMMAND reply by the commands' upper-case names."""
    pool = redis.ConnectionPool(port=server.port, protocol=3, decode_responses=True)
    connection = pool.get_connection()
    connection.send_command("COMMAND")
    reply = connection.read_response()
    pool.disconnect()
    return {command[0].upper(): command for command in reply}


def key_arguments(command: list[Any], count: int) -> set[int] | None:
    """Which of a command's ``count`` arguments the server takes for keys.

    ``None`` when that depends on the arguments' values, or when the server itself can't tell.
    """
    positions: set[int] = set()
    for spec in command[8]:
        if "not_key" in spec["flags"]:
            continue  # the channel of a SPUBLISH
        search, find = spec["begin_search"], spec["find_keys"]
        if search["type"] != "index" or find["type"] != "range":
            return None
        first = search["spec"]["index"] - 1  # the server counts the command's name
        last = find["spec"]["lastkey"]
        last = first + last if last >= 0 else count + last
        positions |= set(range(first, last + 1, find["spec"]["keystep"]))
    return positions


def argument_counts(command: list[Any]) -> range:
    """A few numbers of arguments that the command accepts."""
    arity = command[1]
    least = abs(arity) - 1
    return range(least, least + 1 if arity > 0 else least + 5)


def test_every_key_position_is_what_the_server_says(commands: dict[str, list[Any]]) -> None:
    wrong = {}
    for name in KEY_POSITIONS.keys() & commands.keys():
        for count in argument_counts(commands[name]):
            ours = set(range(*KEY_POSITIONS[name].indices(count)))
            theirs = key_arguments(commands[name], count)
            if ours != theirs:
                wrong[name, count] = (ours, theirs)
    assert wrong == {}


def test_the_comparison_is_about_most_of_the_table(commands: dict[str, list[Any]]) -> None:
    assert len(KEY_POSITIONS.keys() & commands.keys()) > 0.85 * len(KEY_POSITIONS)


def test_every_command_of_the_table_is_known_to_the_newer_server(valkey: Server) -> None:
    assert KEY_POSITIONS.keys() - commands_of(valkey).keys() == set()


@pytest.mark.parametrize(
    "name", ["AUTH", "HELLO", "ACL", "CONFIG", "ACL SETUSER", "CONFIG SET", "MIGRATE", "EVAL"]
)
def test_a_command_that_takes_secrets_or_uncertain_keys_is_not_in_the_table(name: str) -> None:
    assert name not in KEY_POSITIONS


def test_a_command_that_takes_no_keys_is_not_in_the_table(
    commands: dict[str, list[Any]],
) -> None:
    keyless = {name for name, command in commands.items() if not command[8]}
    assert KEY_POSITIONS.keys() & keyless == set()
