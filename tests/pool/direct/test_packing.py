"""Commands are sent in the pieces in which redis-py sends them."""

from __future__ import annotations

import itertools
from typing import Any

import redis

from pyramid_baseplate_redis.pool.direct.packing import joined

CUTOFF = 10


class _Packed:
    """Takes a command's only argument as what it is packed to."""

    def pack(self, packed: bytes) -> list[bytes]:
        return [packed]


def test_pieces_end_where_those_of_redis_py_end() -> None:
    packer: Any = _Packed()
    connection: Any = redis.Connection(command_packer=packer)
    connection._buffer_cutoff = CUTOFF

    for sizes in itertools.product([1, 4, 5, CUTOFF, CUTOFF + 1], repeat=4):
        commands = [bytes([65 + place]) * size for place, size in enumerate(sizes)]
        expected = connection.pack_commands([(command,) for command in commands])
        assert joined(commands, CUTOFF) == expected, sizes
