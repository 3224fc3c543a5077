"""A worker: it asks questions whose answers it knows, and survives whatever is done to it."""

from __future__ import annotations

import contextlib
import os
import random
import traceback
from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import redis

from pyramid_baseplate_redis.exceptions import PoolReleaseError

from ..errors import Interrupted, is_expected

if TYPE_CHECKING:
    from ..hunt import Hunt

LOST = (redis.ConnectionError, redis.TimeoutError)


class Worker:
    """Asks questions whose answers it knows, of one kind of client."""

    def __init__(self, hunt: Hunt, number: int) -> None:
        self.hunt = hunt
        self.number = number
        self.random = random.Random(hunt.seed * 10_000 + number)
        self.commands = 0
        self.interrupts = 0
        self.refusals = 0
        self.errors: Counter[str] = Counter()
        self.pending = False  # an interruption is on its way
        self.steps = 0
        self._questions = 0
        self._ops = [*self.questions().items()]
        if number % 10 == 0 and "rogues" in hunt.faults:
            self._ops.append((self.rogue, 20))

    def questions(self) -> dict[Callable[[Any], None], int]:
        """Return what to do with a client, with weights."""
        raise NotImplementedError

    def hold(self, target: Any) -> tuple[Any, Any, list[Any]]:
        """Take what both sides of a fork will use.

        Returns a pipeline that watches a key, a client, and what the pipeline will answer.
        """
        raise NotImplementedError

    def use_inherited(self, target: Any, pipeline: Any, client: Any) -> None:
        """Use in a forked process what :meth:`hold` returned; the pipeline has to be refused."""
        raise NotImplementedError

    # Its life

    def live(self) -> None:
        """Work until the hunt ends; an interruption on the way from one try to the next is one."""
        while not self.hunt.over:
            try:
                while not self.hunt.over:
                    self._try()
            except (Interrupted, *self.hunt.crew.interruptions):
                self.interrupts += 1

    def _try(self) -> None:
        try:
            self.pending = False
            self.steps += 1
            self.step()
        except (Interrupted, *self.hunt.crew.interruptions):
            self.interrupts += 1
        except BaseException as error:
            self.errors[type(error).__name__] += 1
            if not is_expected(error):
                self.hunt.unexpected.append("".join(traceback.format_exception(error)))

    def step(self) -> None:
        target = self.random.choice(self.hunt.targets)
        ops, weights = zip(*self._ops, strict=True)
        (op,) = self.random.choices(ops, weights)
        client = target.client()
        with self.hunt.crew.hurried(self.random):
            try:
                op(client)
            finally:
                target.give_back(client)
        if self.number % 5 == 1 and self.hunt.crew.spares(self):
            self.hunt.forks.maybe_fork(self)

    def token(self) -> str:
        self._questions += 1
        return f"{os.getpid()}-{self.number}-{self._questions}"

    def earlier_token(self) -> str:
        """Return a token of this process and worker that was used, or is the next one."""
        return f"{os.getpid()}-{self.number}-{self.random.randint(1, self._questions + 1)}"

    def check(self, got: object, *wanted: object) -> None:
        """Note a wrong reply."""
        self.commands += 1
        if got not in wanted:
            stack = "".join(traceback.format_stack(limit=3)[:-1])
            self.hunt.wrong.append(f"{got!r} instead of {' or '.join(map(repr, wanted))}\n{stack}")

    # What every client has

    def echo(self, client: Any) -> None:
        token = self.token()
        self.check(client.echo(token), token.encode())

    def big(self, client: Any) -> None:
        token = self.token() * 20_000  # more than the socket's buffers take at once
        self.check(client.echo(token) == token.encode(), True)

    def count(self, client: Any) -> None:
        """Increment a counter that others increment as well."""
        counter = self.hunt.ledger.choose(self.random)
        attempt = counter.attempt()
        pipeline = client.pipeline(transaction=True)
        try:
            pipeline.watch(counter.key)
            before = pipeline.get(counter.key)
            pipeline.multi()
            pipeline.incr(counter.key)
            (after,) = pipeline.execute()
        except redis.WatchError as error:
            # redis-py raises the same error if the reply to EXEC is lost.
            attempt.was_refused = not isinstance(error.__context__, LOST)
            raise
        attempt.acknowledge(after)
        self.check(after, int(before or 0) + 1)

    def register(self, client: Any) -> None:
        """Use a key that others use as well, for its history."""
        registers = self.hunt.registers
        key, process = registers.choose(self.random), f"worker {self.number}"
        chance = self.random.random()
        if chance < 0.5:
            registers.read(client, process, key)
        elif chance < 0.8:
            registers.write(client, process, key, self.token().encode())
        else:
            registers.replace(client, process, key, self.token().encode())
        self.commands += 1

    # What one shouldn't do

    def pools(self, client: Any) -> list[Any]:
        """Return the pools of which a rogue may take a connection."""
        raise NotImplementedError

    def rogue(self, client: Any) -> None:
        """Take connections by hand, and leave them in a state, or use them when released."""
        pool = self.random.choice(self.pools(client))
        token = self.token()
        connection = pool.get_connection()
        kind = self.random.choice(["twice", "elsewhere", "unread", "altered", "dropped"])
        if kind == "dropped":
            return
        try:
            connection.send_command("ECHO", token)
            if kind != "unread":
                self.check(connection.read_response(), token.encode())
            if kind == "altered":
                command = self.random.choice([("SELECT", 1), ("WATCH", "{t0}"), ("MULTI",)])
                connection.send_command(*command)
                with contextlib.suppress(redis.ResponseError):  # in a Cluster
                    connection.read_response()
            if kind == "elsewhere":
                others = [
                    other
                    for target in self.hunt.targets
                    for other in self.pools(target.client())
                    if other is not pool
                ]
                self.refused(self.random.choice(others).release, connection)
        finally:
            pool.release(connection)
        if kind == "twice":
            self.refused(pool.release, connection)
            self.refused(connection.send_command, "ECHO", token)
            self.refused(connection.read_response)

    def refused(self, call: Callable[..., Any], *args: Any) -> None:
        """A call that has to be refused as the caller's mistake."""
        try:
            call(*args)
        except PoolReleaseError:
            self.refusals += 1
        else:
            if self.hunt.targets[0].refuses:
                self.hunt.unexpected.append(f"{call} of what was released isn't refused")

    def refused_transaction(self, pipeline: Any, pool: Any) -> None:
        """Execute a transaction of the parent's in its child, which has to be refused."""
        inherited = pipeline.connection
        if not self.hunt.targets[0].refuses:
            return
        try:
            pipeline.execute()
        except redis.ConnectionError:
            pass  # a ForkedConnectionError, unless the weather was faster
        else:
            self.hunt.unexpected.append("a child executed its parent's transaction")
        if inherited is not None:
            self.refused(pool.release, inherited)
