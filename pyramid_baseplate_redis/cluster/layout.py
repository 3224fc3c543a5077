"""Looking up a Cluster's layout: bounded in time, and once for all callers that wait for it.

redis-py asks one node after another, each with all of its timeouts. The others wait for a lock, and
each of them then asks all nodes again if the first one failed. While no node answered, requests
would wait for minutes.
"""

from __future__ import annotations

import math
import os
import threading
import time
import weakref
from collections.abc import Callable
from contextvars import ContextVar

import redis
from redis.exceptions import RedisClusterException

from ..exceptions import CircuitOpenError
from ..pool.circuit_breaker import CircuitBreaker
from ..runtime.deadline import LOOKING_UP, as_phase, ends_at, enter_phase
from ..runtime.latch import Latch

_SHARES = 3  # a node gets a third of the time that is left, unless fewer nodes are left
_LEAST_SECONDS = 0.001
_POLL_SECONDS = 0.2  # how often a waiting caller checks whether the other one was interrupted
_UNREACHED = (redis.ConnectionError, redis.TimeoutError)


class _Budget:
    """The time that a look-up may take, and the number of nodes that may be asked."""

    def __init__(self, seconds: float, nodes: int) -> None:
        self._ends_at = min(time.monotonic() + seconds, ends_at())
        self._nodes = nodes

    def share(self) -> float:
        """Return the seconds for the next node.

        :raises redis.TimeoutError: no time is left.
        """
        left = self._ends_at - time.monotonic()
        if left <= 0:
            raise redis.TimeoutError("No time was left to ask this node for the layout")
        nodes, self._nodes = self._nodes, self._nodes - 1
        return max(_LEAST_SECONDS, left / max(1, min(nodes, _SHARES)))


# A context variable, because redis-py asks the nodes many calls below LayoutLookup.run().
_budget: ContextVar[_Budget | None] = ContextVar(
    "pyramid_baseplate_redis_layout_budget", default=None
)


def node_seconds() -> float | None:
    """Return the seconds for the next node of a look-up, or ``None`` outside of a look-up.

    :raises redis.TimeoutError: no time is left.
    """
    budget = _budget.get()
    return None if budget is None else budget.share()


class _Outcome(Latch):
    """The end of a look-up, for the callers that wait for it."""

    def __init__(self) -> None:
        super().__init__()
        self.is_successful = False
        self.error: Exception | None = None


class _Leader:
    """The caller that makes a look-up; only its own frame keeps this object alive."""

    __slots__ = ("__weakref__", "outcome", "thread")

    def __init__(self) -> None:
        self.outcome = _Outcome()
        self.thread = threading.get_ident()


class LayoutLookup:
    """Makes one look-up at a time for all threads and greenlets of a process.

    :param seconds: how long a look-up may take; ``None`` for no limit.
    :param breaker: opened by look-ups in which no node answered; ``None`` for none.
    """

    def __init__(self, seconds: float | None, breaker: CircuitBreaker | None) -> None:
        self._seconds = seconds
        self._breaker = breaker
        # By process, because a fork copies a leader but not the thread that ends its look-up.
        self._leaders: dict[int, weakref.ref[_Leader]] = {}

    def run(self, look_up: Callable[[], object], nodes: int) -> None:
        """Call ``look_up``, or wait for the end of the look-up that another caller is making.

        :param look_up: asks the nodes.
        :param nodes: the number of nodes that it may ask.
        :raises RedisClusterException: no node answered, or they don't agree.
        :raises CircuitOpenError: the breaker is open; raised at once.
        :raises redis.TimeoutError: another caller's look-up does not end.
        """
        # There are four cases:
        #
        # 1. No look-up is under way: this caller makes it.
        # 2. Another caller makes one: wait for its end, and raise its error.
        # 3. This thread makes one, and this is a signal handler that has interrupted it: waiting
        #    would never end, so look up without sharing.
        # 4. The caller that made one was interrupted: this caller may be the next one.
        pid = os.getpid()
        # The last node may take a little longer than its share.
        last_at = math.inf if self._seconds is None else time.monotonic() + self._seconds * 2
        last_at = min(last_at, ends_at())
        while True:
            mine = _Leader()
            known = self._leaders.setdefault(pid, weakref.ref(mine))
            leader = known()
            if leader is mine:
                self._lead(mine.outcome, look_up, nodes)
                return
            if leader is None:
                self._leaders.pop(pid, None)
                continue
            if leader.thread == mine.thread:
                look_up()
                return
            outcome = leader.outcome
            del leader  # or it would seem to be alive while this caller waits
            enter_phase(LOOKING_UP)
            seconds = min(_POLL_SECONDS, max(0.0, last_at - time.monotonic()))
            while not outcome.wait(seconds) and known() is not None:
                if time.monotonic() >= last_at:
                    raise redis.TimeoutError("Another thread's look-up of the layout does not end")
            if outcome.is_successful:
                return
            error = outcome.error
            if isinstance(error, (RedisClusterException, CircuitOpenError)):
                # Not the same object, whose traceback each thread would extend.
                raise type(error)(*error.args) from error.__cause__

    def _lead(self, outcome: _Outcome, look_up: Callable[[], object], nodes: int) -> None:
        budget = None if self._seconds is None else _Budget(self._seconds, nodes)
        started, last_at = time.monotonic(), ends_at()
        is_cut_short = last_at < started + (self._seconds or math.inf)
        token = _budget.set(budget)
        probe = None
        try:
            if self._breaker is not None:
                probe = self._breaker.enter()
            with as_phase(LOOKING_UP):
                look_up()
            outcome.is_successful = True
            if self._breaker is not None:
                self._breaker.succeeded()
        except Exception as error:
            if is_cut_short and time.monotonic() - started >= (last_at - started) / _SHARES:
                # A node may have had too little time. The callers that wait may have more, and
                # look up themselves.
                raise
            outcome.error = error
            if self._breaker is not None and isinstance(error.__cause__, _UNREACHED):
                self._breaker.failed(error.__cause__)
            raise
        finally:
            del probe  # the error's traceback would keep it, and with it other probes away
            _budget.reset(token)
            self._leaders.pop(os.getpid(), None)
            outcome.set()
