"""The names by which commands are counted: those that servers have, and no others."""

from __future__ import annotations

import importlib
import pkgutil
import re
from typing import Any

import pytest
import redis
import redis.commands

from pyramid_baseplate_redis.command_table import COMMAND_NAMES, known_name

from .support.servers import Server

VERSIONS = {"valkey": (9, 1), "redis": (8, 0), "redis-8.2": (8, 2)}  # later ones may have more


def names_of(server: Server) -> set[str]:
    """What the server says it has, up to the version above."""
    with redis.Redis(port=server.port, decode_responses=True, protocol=2) as client:
        client.response_callbacks.clear()
        found: Any = client.execute_command("COMMAND DOCS")

    def collect(pairs: list[Any], prefix: str = "") -> None:
        for name, flat in zip(pairs[::2], pairs[1::2], strict=True):
            documented = dict(zip(flat[::2], flat[1::2], strict=True))
            # Modules need not say it.
            major, minor = map(int, documented.get("since", "0.0").split(".")[:2])
            if (major, minor) <= VERSIONS[server.kind]:
                names.add(name.upper().replace("|", " "))
            collect(documented.get("subcommands", []))

    names: set[str] = set()
    collect(found)
    return {name for name in names if not name.endswith(" HELP")}


def test_every_command_of_a_server_is_known(server: Server) -> None:
    names = names_of(server)

    assert len(names) > 300
    assert names - COMMAND_NAMES == set()


def test_every_command_that_redis_py_has_for_modules_is_known() -> None:
    found = set()
    for module in pkgutil.walk_packages(redis.commands.__path__, "redis.commands."):
        constants = vars(importlib.import_module(module.name)).values()
        texts = [constant for constant in constants if isinstance(constant, str)]
        found |= {text for text in texts if re.fullmatch(r"[A-Z]+\.[A-Z0-9_]+", text)}

    # What is newer than this list goes by the name of the others until it is added.
    assert len(found) > 90
    assert len(found - COMMAND_NAMES) < 10


@pytest.mark.parametrize(
    ("command", "name"),
    [
        ("GET", "GET"),
        ("get", "GET"),
        (b"GET", "GET"),
        ("CONFIG GET", "CONFIG GET"),
        ("JSON.GET", "JSON.GET"),
        ("GET secret", "GET"),
        ("CONFIG secret", "CONFIG"),
        ("SECRET", "OTHER"),
        ("SECRET MORE", "OTHER"),
        ("", "OTHER"),
    ],
)
def test_a_name_that_no_server_has_is_replaced(command: object, name: str) -> None:
    assert known_name(command) == name
