"""The questions to clients of one server, and of the primary that Sentinels name."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from typing import Any

from ..errors import EXPECTED
from .worker import Worker

SHARED = "shared"  # a key that transactions of many workers watch


class ServerWorker(Worker):
    """Asks one server."""

    def questions(self) -> dict[Callable[[Any], None], int]:
        """Return what to do with a client, with weights."""
        return {
            self.echo: 30, self.set_and_get: 20, self.get_earlier: 5, self.pipeline: 12,
            self.transaction: 8, self.count: 6, self.register: 10,
            self.left_open: 3, self.script: 8,
            self.blocking: 5, self.subscriber: 2, self.queue: 4, self.own_connection: 4,
            self.lock: 3, self.who_am_i: 3, self.big: 2,
        }  # fmt: skip

    def pools(self, client: Any) -> list[Any]:
        """Return the only pool of a client."""
        return [client.connection_pool]

    def set_and_get(self, client: Any) -> None:
        token = self.token()
        self.check(client.set(token, token, ex=60), True)
        # None: the server was restarted in between.
        self.check(client.get(token), token.encode(), None)

    def get_earlier(self, client: Any) -> None:
        key = self.earlier_token()
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

    # What a forked process does

    def hold(self, target: Any) -> tuple[Any, Any, list[Any]]:
        """Take a pipeline that watches a key and a client with a connection of its own."""
        token = self.token()
        pipeline = target.client().pipeline()
        pipeline.watch(token)
        pipeline.multi()
        pipeline.echo(token)
        return pipeline, target.client().client(), [token.encode()]

    def use_inherited(self, target: Any, pipeline: Any, client: Any) -> None:
        """Use what is inherited; what the parent holds has to be refused."""
        own = target.client()
        for op in (self.echo, self.set_and_get, self.pipeline, self.own_connection):
            for asked in (own, client):
                with contextlib.suppress(EXPECTED):
                    op(asked)
        self.refused_transaction(pipeline, target.pool)
        self.echo(target.client())
