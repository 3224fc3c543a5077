"""Locks that expire, that can be lost, and that keep an old holder from overwriting a new one."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from pyramid.httpexceptions import HTTPServiceUnavailable
from pyramid.request import Request
from redis import Redis
from redis.client import Pipeline
from redis.exceptions import RedisClusterException, RedisError
from redis.lock import Lock
from sqlalchemy import text
from sqlalchemy.orm import Session

logger = logging.getLogger(__name__)


class BusyError(Exception):
    """Another process has the lock."""


@contextmanager
def locked(client: Redis, name: str, timeout: float, wait: float) -> Iterator[Lock]:
    """Hold a lock during the block.

    :param timeout: seconds after which the server releases the lock, whatever the holder does.
    :param wait: seconds to wait for the lock if another process has it.
    :raises BusyError: another process still has it.
    """
    lock = client.lock(name, timeout=timeout, blocking_timeout=wait)
    if not lock.acquire():
        raise BusyError(name)
    try:
        yield lock
    finally:
        try:
            lock.release()
        except (RedisError, RedisClusterException) as error:
            # The work is done, and the lock has expired or is going to.
            logger.warning("%s: was not released by its holder: %s", name, error)


def rebuild(request: Request) -> dict[str, int]:
    """A view: build a report that no other process is building."""
    report = int(request.matchdict["report"])
    try:
        with locked(request.foo, f"lock:report:{report}", timeout=30, wait=2):
            return {"rows": build(report)}
    except BusyError as error:
        raise HTTPServiceUnavailable(headers={"Retry-After": "5"}) from error


def build(report: int) -> int:
    return 10 * report


# Work that takes longer than the timeout


def rebuild_all(client: Redis, reports: Iterable[int]) -> None:
    """Build many reports.

    :raises redis.exceptions.LockNotOwnedError: the lock was lost, so that another process may be
        building them.
    """
    with locked(client, "lock:reports", timeout=60, wait=0) as lock:
        for report in reports:
            lock.extend(60, replace_ttl=True)
            build(report)


# Fencing


def rebuild_fenced(client: Redis, session: Session, report: int) -> None:
    """Build and store a report, unless a later holder of the lock has stored it already."""
    with locked(client, f"lock:report:{report}", timeout=30, wait=2):
        fence = client.incr(f"fence:report:{report}")  # before anything is read
        store(session, report, build(report), fence)


def store(session: Session, report: int, rows: int, fence: int) -> None:
    update = text(
        "UPDATE report SET rows = :rows, fence = :fence WHERE id = :id AND fence < :fence"
    )
    values = {"rows": rows, "fence": fence, "id": report}
    if session.connection().execute(update, values).rowcount != 1:
        raise BusyError(f"report {report}: a later holder of the lock has stored it")


# Without a lock


def is_first_today(client: Redis, user: str, day: str) -> bool:
    """Return whether this is the first call for the user on that day."""
    return bool(client.set(f"greeted:{user}:{day}", 1, nx=True, ex=48 * 3600))


def take_from_stock(client: Redis, item: str) -> bool:
    """Take one item, unless none is left."""

    def take(pipeline: Pipeline) -> None:
        left = int(pipeline.get(item) or 0)
        pipeline.multi()
        if left > 0:
            pipeline.decr(item)

    return bool(client.transaction(take, item))
