"""The questions to clients of a Cluster."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from typing import Any

from ..errors import EXPECTED
from ..tags import TAGS
from .worker import Worker


class ClusterWorker(Worker):
    """Asks all nodes of a Cluster."""

    def questions(self) -> dict[Callable[[Any], None], int]:
        """Return what to do with a client, with weights."""
        return {
            self.echo: 15, self.set_and_get: 25, self.get_earlier: 5, self.pipeline: 12,
            self.several: 6, self.transaction: 8, self.count: 8, self.register: 10,
            self.left_open: 3,
            self.script: 8, self.blocking: 5, self.subscriber: 2, self.queue: 4, self.lock: 3,
            self.big: 2,
        }  # fmt: skip

    def pools(self, client: Any) -> list[Any]:
        """Return the nodes' pools."""
        client.ping()  # the process knows the layout
        pools: list[Any] = client.connection_pool.pools
        return pools

    def key(self) -> str:
        """Return a key that is used once; half of them are in slots that move."""
        token = self.token()
        return f"{self.random.choice(TAGS)}{token}" if self._questions % 2 else token

    def echo(self, client: Any) -> None:
        token = self.token()
        node = self.random.choice(client.get_nodes())
        self.check(client.echo(token, target_nodes=node), token.encode())

    def big(self, client: Any) -> None:
        key = self.key()
        value = key * 20_000  # more than the socket's buffers take at once
        self.check(client.eval("return ARGV[1]", 1, key, value) == value.encode(), True)

    def set_and_get(self, client: Any) -> None:
        key = self.key()
        self.check(client.set(key, key, ex=60), True)
        # None: a failover has lost it meanwhile.
        self.check(client.get(key), key.encode(), None)

    def get_earlier(self, client: Any) -> None:
        token = self.earlier_token()
        for key in (token, self.random.choice(TAGS) + token):
            self.check(client.get(key), key.encode(), None)

    def pipeline(self, client: Any) -> None:
        keys = [self.key() for _ in range(self.random.randint(1, 6))]
        pipeline = client.pipeline()
        for key in keys:
            pipeline.set(key, key, ex=60).get(key)
        replies = pipeline.execute()
        self.check(replies[::2], [True] * len(keys))
        for key, reply in zip(keys, replies[1::2], strict=True):
            # None: one of the two was redirected, or a failover came between them.
            self.check(reply, key.encode(), None)

    def several(self, client: Any) -> None:
        keys = [self.key() for _ in range(5)]
        client.mset_nonatomic({key: key for key in keys})
        for key, reply in zip(keys, client.mget_nonatomic(keys), strict=True):
            self.check(reply, key.encode(), None)

    def transaction(self, client: Any) -> None:
        key = f"{self.random.choice(TAGS)}{self.token()}"
        pipeline = client.pipeline(transaction=True)
        pipeline.set(key, key, ex=60).get(key).getrange(key, 0, -1)
        self.check(pipeline.execute(), [True, key.encode(), key.encode()])

    def left_open(self, client: Any) -> None:
        """A pipeline that still watches when the request ends, or when it is dropped."""
        key = self.key()
        pipeline = client.pipeline(transaction=True)
        pipeline.watch(key)
        self.check(pipeline.get(key), None)
        if self.random.random() < 0.5:
            pipeline.itself = pipeline  # only the garbage collector finds it

    def script(self, client: Any) -> None:
        key = self.key()
        if self.random.random() < 0.5:
            self.check(client.eval("return ARGV[1]", 1, key, key), key.encode())
        else:
            script = client.register_script("return {KEYS[1], ARGV[1]}")
            self.check(script([key], [key]), [key.encode()] * 2)

    def blocking(self, client: Any) -> None:
        key = f"{self.random.choice(TAGS)}list-{self.token()}"
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
        key = f"{self.random.choice(TAGS)}queue-{self.token()}"
        queue = client.message_queue(key)
        queue.put(f"value of {key}")
        self.check(queue.get(timeout=self.random.choice([0, 1])), f"value of {key}".encode())

    def lock(self, client: Any) -> None:
        key = f"{self.random.choice(TAGS)}lock-{self.token()}"
        lock = client.lock(key, timeout=5, blocking_timeout=0.05)
        with lock:
            self.check(client.get(key), lock.local.token, None)

    # What a forked process does

    def hold(self, target: Any) -> tuple[Any, Any, list[Any]]:
        """Take a pipeline that watches a key, and a client that has asked."""
        key = self.key()
        client = target.client()
        self.set_and_get(client)
        pipeline = target.client().pipeline(transaction=True)
        pipeline.watch(key)
        pipeline.multi()
        pipeline.set(key, key, ex=60).get(key)
        return pipeline, client, [True, key.encode()]

    def use_inherited(self, target: Any, pipeline: Any, client: Any) -> None:
        """Use what is inherited; what the parent holds has to be refused."""
        own = target.client()
        for op in (self.echo, self.set_and_get, self.pipeline, self.transaction):
            for asked in (own, client):
                with contextlib.suppress(EXPECTED):
                    op(asked)
        self.refused_transaction(pipeline, self.random.choice(self.pools(own)))
        self.echo(target.client())
