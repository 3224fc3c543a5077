"""TLS of which a byte arrives at a time takes no longer than its timeouts, under gevent as well.

Each byte restarts the timeout of gevent's TLS sockets.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from ..support.servers import needs_debian_redis
from .bounds.limits import Limits
from .bounds.measuring import measured
from .bounds.operations import COMMAND, OPERATIONS
from .bounds.standalone import Standalone
from .everywhere import everywhere

_BUSY = 1.0  # seconds by which a machine that runs other tests may be late


@needs_debian_redis
@everywhere
@pytest.mark.parametrize("part", ["handshake", "reply"])
def test_tls_a_byte_at_a_time_costs_one_timeout(part: str, tmp_path: Path) -> None:
    limits = Limits()
    # The reply to a blocking command shows it best: other replies are shorter than their timeout.
    operation = COMMAND if part == "handshake" else OPERATIONS["queue get"]
    with Standalone(tmp_path, limits) as servers:
        (fault,) = [
            fault for fault in servers.faults() if fault.name == f"TLS {part}, a byte at a time"
        ]
        (cell,) = measured(fault, [operation], limits)
    assert cell.outcome == "TimeoutError"
    assert not cell.is_missed(_BUSY), f"it took {cell.measured} seconds, not {cell.bound}"
