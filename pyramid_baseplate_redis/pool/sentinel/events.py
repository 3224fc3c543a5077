"""The announcements of Sentinels: a thread for each of them learns of a failover at once.

Discovery only happens when a connection is made. Without announcements, open connections would
stay with a primary that was demoted.
"""

from __future__ import annotations

import contextlib
import logging
import os
import weakref
from collections import deque
from collections.abc import Iterator
from typing import Any, Protocol

import redis
from redis.backoff import ExponentialWithJitterBackoff

from ...runtime.background import start_thread

logger = logging.getLogger(__package__)

_SWITCHED = "+switch-master"  # <service> <old host> <old port> <new host> <new port>
# slave <name> <host> <port> @ <service> <old host> <old port>
_PROMOTING = "+failover-state-send-slaveof-noone"
_PROMOTED = "+promoted-slave"
_LOOKS_EVERY = 1.0  # seconds between checks that the pool still exists


class Listening(Protocol):
    """The part of a pool that its listeners use."""

    service_name: str
    sentinel_manager: Any
    unsubscribed: deque[redis.Redis]

    def get_master_address(self) -> Any:
        """Ask for the primary's address."""

    def switched(self, address: tuple[str, int]) -> None:
        """Use this address of the primary from now on."""

    def demoted(self, address: tuple[str, int]) -> None:
        """Stop using the server, which isn't the primary any longer."""


def start_listening(pool: Listening) -> None:
    """Start a thread for each Sentinel that has none yet; it ends with the pool.

    Threads don't survive a fork: call this again in the child. Under gevent they are greenlets.
    """
    while True:
        try:
            sentinel = pool.unsubscribed.pop()  # atomic: no other caller gets the same one
        except IndexError:
            return
        if not start_thread(_listen(weakref.ref(pool), sentinel)):
            pool.unsubscribed.append(sentinel)
            return


def _listen(reference: weakref.ref[Listening], sentinel: redis.Redis) -> Iterator[float]:
    backoff: Any = ExponentialWithJitterBackoff(base=0.1, cap=2)
    pid, failures = os.getpid(), 0
    while reference() is not None:
        try:
            with sentinel.pubsub(ignore_subscribe_messages=True) as subscriber:
                subscriber.subscribe(_SWITCHED, _PROMOTING, _PROMOTED)
                _look_again(reference)  # an announcement before this was missed
                failures = 0
                # A fork may copy a greenlet: the copy must not read the parent's announcements.
                while reference() is not None and os.getpid() == pid:
                    message = subscriber.get_message(timeout=_LOOKS_EVERY)
                    if message is not None:
                        _heard(reference, sentinel, message)
                return
        except redis.RedisError as error:
            logger.debug("listening to a Sentinel failed: %s", error)
        except Exception:
            logger.exception("listening to a Sentinel failed")
        failures += 1
        yield backoff.compute(failures)


def _look_again(reference: weakref.ref[Listening]) -> None:
    pool = reference()
    if pool is not None:
        with contextlib.suppress(redis.ConnectionError):  # the next connection raises it
            pool.get_master_address()


def _heard(reference: weakref.ref[Listening], sentinel: redis.Redis, message: Any) -> None:
    pool = reference()
    if pool is None:
        return
    channel, words = _text(message["channel"]), _text(message["data"]).split(" ")
    try:
        if channel == _SWITCHED:
            service = words[0]
            old, new = (words[1], int(words[2])), (words[3], int(words[4]))
        else:
            service = words[5]
            old, new = (words[6], int(words[7])), (words[2], int(words[3]))
    except (IndexError, ValueError):
        return
    if service != pool.service_name:
        return
    if channel == _PROMOTING:
        pool.sentinel_manager.distrust(old)
        pool.demoted(old)
        return
    states: Any = sentinel.sentinel_masters()
    state = states.get(service)
    if state is None:
        return
    primary = (state["ip"], state["port"])
    # If this thread was held up, the state may be that of a later failover, with another primary:
    # its epoch doesn't belong to this announcement. But the Sentinel that promotes reports the old
    # address for a moment after it has announced the new one.
    promoting = channel == _PROMOTED and "failover_in_progress" in state["flags"]
    if primary != new and not (promoting and primary == old):
        return
    if pool.sentinel_manager.learn(state.get("config-epoch", 0), new):
        logger.info("Sentinel: the primary of %s is %s:%d now", service, *new)
        pool.switched(new)


def _text(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
