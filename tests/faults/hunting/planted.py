"""Mistakes that a client may make, planted to see that the hunt finds them."""

from __future__ import annotations

import random
from typing import Any

_CHANCE = 0.03


class _Planted:
    """A target whose clients make a mistake now and then."""

    def __init__(self, target: Any, seed: int) -> None:
        self._target = target
        self.random = random.Random(seed)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._target, name)


class Swaps(_Planted):
    """Its clients' ECHO and GET return the reply to another call now and then."""

    last: Any = None

    def client(self) -> Any:
        client = self._target.client()
        execute = client.execute_command

        def swapped(*args: Any, **options: Any) -> Any:
            reply = execute(*args, **options)
            if args[0] in ("ECHO", "GET") and type(reply) is bytes:
                before, self.last = self.last, reply
                if before is not None and self.random.random() < _CHANCE:
                    return before
            return reply

        client.execute_command = swapped
        return client


class LosesSlots(_Planted):
    """Takes one connection, which it never gives back."""

    lost: Any = None

    def give_back(self, client: Any) -> None:
        self._target.give_back(client)
        if self.lost is None and self.random.random() < _CHANCE:
            _, pool = self.random.choice(self._target.pools())
            self.lost = pool.get_connection()


class ForgetsTransactions(_Planted):
    """Its clients' transactions return a reply without being executed now and then."""

    def client(self) -> Any:
        client = self._target.client()
        make = client.pipeline

        def pipeline(*args: Any, **options: Any) -> Any:
            made = make(*args, **options)
            incr = made.incr

            def forgotten(key: str) -> Any:
                if self.random.random() < 10 * _CHANCE:
                    value = int(self._target.client().get(key) or 0)
                    made.reset()
                    made.execute = lambda: [value + 1]
                return incr(key)

            made.incr = forgotten
            return made

        client.pipeline = pipeline
        return client


PLANTED = {"swap": Swaps, "lose": LosesSlots, "forget": ForgetsTransactions}
