"""The bounds that the documents promise, computed from the settings.

Each formula has the sentence that promises it. A test compares the sentences with the documents.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from .limits import Limits
from .operations import CHECK, HEALTH, PUB_SUB, WITHIN, Operation

_TIMEOUTS = "guides/pools-and-timeouts"
_TOPOLOGIES = "guides/sentinel-and-cluster"
_THIS_PAGE = "explanation/bounds"


@dataclass(frozen=True)
class Formula:
    """A bound.

    :param name: how the documents call it.
    :param seconds: computes it.
    :param page: the document that promises it.
    :param promise: the sentence there.
    """

    name: str
    seconds: Callable[[Limits, Operation], float]
    page: str
    promise: str


class Bound(NamedTuple):
    """A promise for one cell of the table."""

    seconds: float
    formula: Formula


def _message(limits: Limits) -> float:
    return 2 * limits.message + limits.connect + limits.reply


AT_ONCE = Formula(
    "at once",
    lambda limits, operation: 0.0,
    _TIMEOUTS,
    "If the server's host refuses the connection, the command fails at once.",
)
BREAKER = Formula(
    "breaker",
    lambda limits, operation: 0.0,
    "guides/errors-and-retries",
    "While it is open, commands fail at once with ``CircuitOpenError``.",
)
CONNECT = Formula(
    "connect",
    lambda limits, operation: limits.connect,
    _TIMEOUTS,
    "the command waits for ``socket_connect_timeout``.",
)
LOGIN = Formula(
    "login",
    lambda limits, operation: limits.reply,
    _TIMEOUTS,
    "``socket_connect_timeout`` and one ``socket_timeout``, for connecting and logging in",
)
HANDSHAKE = Formula(
    "handshake",
    lambda limits, operation: limits.reply,
    _TIMEOUTS,
    "with TLS, one more ``socket_timeout``",
)
REPLY = Formula(
    "reply",
    lambda limits, operation: operation.wait(limits) + limits.reply,
    _TIMEOUTS,
    "how long to wait for a whole reply, however small the pieces are in which it arrives.",
)
REPLIES = Formula(
    "replies",
    lambda limits, operation: operation.wait(limits) + operation.replies * limits.reply,
    _TIMEOUTS,
    "A pipeline may wait ``socket_timeout`` for each of its replies, and ``transaction()`` for "
    "the reply to each of its commands.",
)
HEALTH_CHECKS = Formula(
    "health checks",
    lambda limits, operation: operation.wait(limits) + 2 * operation.replies * limits.reply,
    _TIMEOUTS,
    "With ``foo.health_check_interval``, the ``PING`` before a command may take one more "
    "``socket_timeout``.",
)
SENDING = Formula(
    "sending",
    lambda limits, operation: limits.reply,
    _TIMEOUTS,
    "``socket_timeout`` for sending the command, and ``socket_timeout`` for its reply.",
)
PIECES = Formula(
    "pieces",
    lambda limits, operation: operation.replies * limits.reply,
    _TIMEOUTS,
    "each piece may take ``socket_timeout``",
)
POOL = Formula(
    "pool",
    lambda limits, operation: limits.pool,
    _TIMEOUTS,
    "If none becomes free, the command raises ``PoolTimeoutError``.",
)
NAME = Formula(
    "name",
    lambda limits, operation: limits.connect,
    _TIMEOUTS,
    "how long to wait until a host name is looked up and a new connection is established",
)
DEADLINE = Formula(
    "deadline",
    lambda limits, operation: limits.within,
    _TIMEOUTS,
    "``within()`` limits a block of code:",
)
PROBE = Formula(
    "probe",
    lambda limits, operation: limits.health,
    "deploying/health",
    "The view waits no longer than ``foo.health_timeout``",
)
CHECKED = Formula(
    "check",
    lambda limits, operation: limits.connect + limits.reply,
    "guides/predis",
    "a frozen server costs ``socket_connect_timeout`` and ``socket_timeout`` once.",
)
MESSAGE = Formula(
    "message",
    lambda limits, operation: _message(limits),
    _THIS_PAGE,
    "A subscriber's ``get_message(timeout)`` takes at most twice its timeout",
)
SENTINELS = Formula(
    "Sentinels",
    lambda limits, operation: limits.connect + limits.reply + operation.wait(limits),
    _TOPOLOGIES,
    "Asking the Sentinels takes at most ``foo.socket_connect_timeout`` and ``foo.socket_timeout``",
)
CROWD = Formula(
    "many ask",
    lambda limits, operation: 2 * (limits.connect + limits.reply) + operation.wait(limits),
    _TOPOLOGIES,
    "It takes up to twice as long while more than five threads ask at the same time.",
)
PRIMARY = Formula(
    "primary",
    lambda limits, operation: (
        2 * (limits.connect + limits.reply) + limits.reply + operation.wait(limits)
    ),
    _TOPOLOGIES,
    "together, before each new connection.",
)
LAYOUT = Formula(
    "layout",
    lambda limits, operation: (
        operation.replies * limits.reply + operation.wait(limits) + limits.connect + limits.reply
    ),
    _TOPOLOGIES,
    "A look-up of the layout takes at most ``foo.socket_connect_timeout`` and "
    "``foo.socket_timeout`` together",
)
UNREACHED = Formula(
    "unreached",
    lambda limits, operation: limits.connect + LAYOUT.seconds(limits, operation),
    _TOPOLOGIES,
    "The client then asks for the layout and sends the command once more",
)
FIRST_LAYOUT = Formula(
    "first layout",
    lambda limits, operation: limits.connect + limits.reply,
    _TOPOLOGIES,
    "All callers wait for one look-up and share its result.",
)
SERVERS = Formula(
    "servers",
    lambda limits, operation: 2 * (limits.connect + limits.reply),
    "guides/predis",
    "Finding the servers of Sentinels or of a Cluster may take as long again.",
)

FORMULAE = (
    AT_ONCE, BREAKER, CONNECT, LOGIN, HANDSHAKE, REPLY, REPLIES, HEALTH_CHECKS, SENDING, PIECES,
    POOL, NAME, DEADLINE, PROBE, CHECKED, MESSAGE, SENTINELS, CROWD, PRIMARY, LAYOUT, UNREACHED,
    FIRST_LAYOUT, SERVERS,
)  # fmt: skip
_WAITING_FOR_REPLIES = (REPLY, REPLIES, HEALTH_CHECKS)
_SEVERAL_SERVERS = (SENTINELS, CROWD, PRIMARY, LAYOUT, UNREACHED, FIRST_LAYOUT)


def promised(formula: Formula, operation: Operation, limits: Limits) -> Bound:
    """Return the bound of an operation.

    :param formula: that of a command under the fault.
    """
    own = formula
    if operation is HEALTH:
        own = PROBE
    elif operation is CHECK:
        own = SERVERS if formula in _SEVERAL_SERVERS else CHECKED
    elif operation is PUB_SUB and formula in _WAITING_FOR_REPLIES:
        own = MESSAGE
    seconds = own.seconds(limits, operation)
    if operation is WITHIN and limits.within < seconds:
        return Bound(limits.within, DEADLINE)
    return Bound(seconds, own)
