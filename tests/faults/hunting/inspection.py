"""The end of a hunt: each slot is free, and each connection that a server sees has a slot."""

from __future__ import annotations

import gc
import time
from collections import Counter
from typing import Any

import redis

from .weather.process import Places

_SECONDS = 5  # until a server has seen the last connections go


def problems_of(target: Any, places: Places, size: int) -> list[str]:
    """Return what is wrong with a target's pools.

    :param size: how many connections each of its pools has.
    """
    gc.collect()
    problems = []
    for port, pool in target.pools():
        name = f"{target.name} to {places.server_of(port)}"
        problems += [f"{name}: {problem}" for problem in _problems_of_pool(target, pool, size)]
    return problems + _lost_sockets(target, places)


def _problems_of_pool(target: Any, pool: Any, size: int) -> list[str]:
    problems = []
    in_use, _ = target.figures(pool)
    if in_use:
        problems.append(f"{in_use} slots are in use at the end")
    # All at once: this needs each slot, and finds the idle ones that the server closed.
    taken: list[Any] = []
    try:
        taken += [pool.get_connection() for _ in range(size)]
    except redis.RedisError as error:
        for connection in taken:
            pool.release(connection)
        return [*problems, f"not all slots are usable: {error!r}"]
    identities = set()
    for number, connection in enumerate(taken):
        connection.send_command("ECHO", f"last {number}")
        reply = connection.read_response()
        if reply != f"last {number}".encode():
            problems.append(f"{reply!r} instead of last {number}")
        connection.send_command("CLIENT", "ID")
        identities.add(connection.read_response())
    if len(identities) != size:
        problems.append(f"{size} holders, {len(identities)} sockets")
    for connection in taken:
        pool.release(connection)
    return problems


def _lost_sockets(target: Any, places: Places) -> list[str]:
    """Compare what the pools have with what each server sees."""
    ports = [*places.nodes, *places.sentinels]
    admins = {port: redis.Redis(port=port, client_name="admin") for port in ports}
    deadline = time.monotonic() + _SECONDS
    while True:
        expected: Counter[int] = Counter()
        in_use = 0
        for port, pool in target.pools():
            used, opened = target.figures(pool)
            in_use += used
            expected[places.server_of(port)] += opened
        for port, pool in target.other_pools():
            expected[port] += target.figures(pool)[1]
        seen = {
            port: sum(client["name"] == target.name for client in admin.client_list())
            for port, admin in admins.items()
        }
        wrong = {port: count for port, count in seen.items() if count != expected[port]}
        if not wrong and not in_use:
            break
        if time.monotonic() > deadline:
            opened_there = {port: expected[port] for port in wrong}
            shown = "".join(_connections(target.name, admins[port]) for port in wrong)
            return [
                f"{target.name}: {in_use} in use, {opened_there} open, servers see {wrong}\n{shown}"
            ]
        time.sleep(0.05)
    for admin in admins.values():
        admin.close()
    return []


def _connections(name: str, admin: redis.Redis) -> str:
    """Describe the connections of a client, as a server lists them."""
    listed: Any = admin.client_list()
    return "".join(
        f"from {client['addr']}: {client['age']} s old, idle for {client['idle']} s after "
        f"{client['cmd']}\n"
        for client in listed
        if client["name"] == name
    )
