"""The workers: each asks questions whose answers it knows."""

from __future__ import annotations

import contextlib
import os
import random
import time
import traceback
from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import redis

from pyramid_baseplate_redis.exceptions import PoolReleaseError

from .errors import EXPECTED, Interrupted

if TYPE_CHECKING:
    from .hunt import Hunt

SHARED = "shared"  # a key that transactions of many workers watch


class Worker:
    """Asks questions whose answers it knows, and survives whatever is done to it."""

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
        self._ops: list[tuple[Callable[[Any], None], int]] = [
            (self.echo, 30), (self.set_and_get, 20), (self.get_earlier, 5), (self.pipeline, 12),
            (self.transaction, 8), (self.left_open, 3), (self.script, 8), (self.blocking, 5),
            (self.subscriber, 2), (self.queue, 4), (self.own_connection, 4), (self.lock, 3),
            (self.who_am_i, 3), (self.big, 2),
        ]  # fmt: skip
        if number % 10 == 0 and "rogues" in hunt.faults:
            self._ops.append((self.rogue, 20))

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
        except EXPECTED as error:
            self.errors[type(error).__name__] += 1
        except (Interrupted, *self.hunt.crew.interruptions):
            self.interrupts += 1
        except BaseException as error:
            self.errors[type(error).__name__] += 1
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
            self.hunt.maybe_fork(self)

    def token(self) -> str:
        self._questions += 1
        return f"{os.getpid()}-{self.number}-{self._questions}"

    def check(self, got: object, *wanted: object) -> None:
        """Note a wrong reply."""
        self.commands += 1
        if got not in wanted:
            stack = "".join(traceback.format_stack(limit=3)[:-1])
            self.hunt.wrong.append(f"{got!r} instead of {' or '.join(map(repr, wanted))}\n{stack}")

    # The questions

    def echo(self, client: Any) -> None:
        token = self.token()
        self.check(client.echo(token), token.encode())

    def big(self, client: Any) -> None:
        token = self.token() * 20_000  # more than the socket's buffers take at once
        self.check(client.echo(token) == token.encode(), True)

    def set_and_get(self, client: Any) -> None:
        token = self.token()
        self.check(client.set(token, token, ex=60), True)
        # None: the server was restarted in between.
        self.check(client.get(token), token.encode(), None)

    def get_earlier(self, client: Any) -> None:
        key = f"{os.getpid()}-{self.number}-{self.random.randint(1, self._questions + 1)}"
        self.check(client.get(key), key.encode(), None)

    def pipeline(self, client: Any) -> None:
        tokens = [self.token() for _ in range(self.random.randint(1, 6))]
        pipeline = client.pipeline(transaction=self.random.random() < 0.5)
        for token in tokens:
            pipeline.echo(token).set(token, token, ex=60).get(token)
        wanted = [reply for token in tokens for reply in (token.encode(), True, token.encode())]
        self.check(pipeline.execute(), wanted)

    def transaction(self, client: Any) -> None:
        token = self.token()
        key = self.random.choice([SHARED, f"count-{token}"])

        def queue(pipeline: Any) -> None:
            self.check(pipeline.echo(token), token.encode())
            before = pipeline.get(key)
            # Not only None: redis-py takes a lost reply of EXEC for a key that has changed, and
            # transaction() does it all again.
            self.check(before is None or before.isdigit(), True)
            pipeline.multi()
            pipeline.echo(token).incr(key).expire(key, 60)

        results = client.transaction(queue, key)
        self.check([results[0], results[2]], [token.encode(), True])

    def left_open(self, client: Any) -> None:
        """A pipeline that still watches when the request ends, or when it is dropped."""
        token = self.token()
        pipeline = client.pipeline()
        pipeline.watch(SHARED)
        self.check(pipeline.echo(token), token.encode())
        if self.random.random() < 0.5:
            pipeline.itself = pipeline  # only the garbage collector finds it

    def script(self, client: Any) -> None:
        token = self.token()
        if self.random.random() < 0.5:
            self.check(client.eval("return ARGV[1]", 0, token), token.encode())
        else:
            script = client.register_script("return {KEYS[1], ARGV[1]}")
            self.check(script([token], [token]), [token.encode()] * 2)

    def blocking(self, client: Any) -> None:
        key = f"list-{self.token()}"
        if self.random.random() < 0.3:
            self.check(client.blpop([key], 0.02), None)
        else:
            client.rpush(key, f"value of {key}")
            reply = client.blpop([key], 0.02)
            self.check(reply and [*reply], [key.encode(), f"value of {key}".encode()], None)

    def subscriber(self, client: Any) -> None:
        channel = self.token()
        subscriber = client.pubsub(ignore_subscribe_messages=True)
        subscriber.subscribe(channel)
        client.publish(channel, f"value of {channel}")
        deadline = time.monotonic() + 0.2
        while time.monotonic() < deadline:
            message = subscriber.get_message(timeout=0.05)
            if message is not None:
                self.check(
                    (message["channel"], message["data"]),
                    (channel.encode(), f"value of {channel}".encode()),
                )
                break
        if self.random.random() < 0.5:
            subscriber.close()

    def queue(self, client: Any) -> None:
        if not hasattr(client, "message_queue"):
            return
        key = f"queue-{self.token()}"
        queue = client.message_queue(key)
        queue.put(f"value of {key}")
        self.check(queue.get(timeout=self.random.choice([0, 1])), f"value of {key}".encode())

    def own_connection(self, client: Any) -> None:
        with client.client() as single:
            for _ in range(self.random.randint(1, 5)):
                with contextlib.suppress(EXPECTED):
                    self.random.choice([self.echo, self.set_and_get, self.pipeline])(single)

    def lock(self, client: Any) -> None:
        token = self.token()
        lock = client.lock(f"lock-{token}", timeout=5, blocking_timeout=0.05)
        with lock:
            self.check(client.get(f"lock-{token}"), lock.local.token, None)

    def who_am_i(self, client: Any) -> None:
        info = client.client_info()
        name = client.connection_pool.connection_kwargs["client_name"]
        self.check((info["name"], info["db"], info["flags"]), (name, 0, "N"))

    # What one shouldn't do

    def rogue(self, client: Any) -> None:
        """Take connections by hand, and leave them in a state, or use them when released."""
        pool = client.connection_pool
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
                command = self.random.choice([("SELECT", 1), ("WATCH", SHARED), ("MULTI",)])
                connection.send_command(*command)
                connection.read_response()
            if kind == "elsewhere":
                (other,) = {target.pool for target in self.hunt.targets} - {pool}
                self.refused(other.release, connection)
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

    # What a forked process does

    def held_by_parent(self, target: Any) -> Any:
        """What is taken now, and used on both sides of a fork: a pipeline that watches, a client.

        The third is what the pipeline will answer.
        """
        token = self.token()
        pipeline = target.client().pipeline()
        pipeline.watch(token)
        pipeline.multi()
        pipeline.echo(token)
        return pipeline, target.client().client(), [token.encode()]

    def child(self, target: Any, pipeline: Any, single: Any) -> None:
        """Use what is inherited; what the parent holds has to be refused."""
        client = target.client()
        for op in (self.echo, self.set_and_get, self.pipeline, self.own_connection):
            for asked in (client, single):
                with contextlib.suppress(EXPECTED):
                    op(asked)
        inherited = pipeline.connection
        if self.hunt.targets[0].refuses:
            try:
                pipeline.execute()
            except redis.ConnectionError:
                pass  # a ForkedConnectionError, unless the weather was faster
            else:
                self.hunt.unexpected.append("a child executed its parent's transaction")
            if inherited is not None:
                self.refused(target.pool.release, inherited)
        self.echo(target.client())
