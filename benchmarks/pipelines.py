"""Measure pipelines of 10 and of 100 commands, and a transaction of 10.

Run ``python benchmarks/pipelines.py``. The documents explain how to read the tables.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import redis
from measuring import (
    Row,
    Tracing,
    TracingStates,
    Variant,
    arguments,
    instrumented_redis_class,
    measure,
    ratio,
    rows,
    running_valkey,
    show,
    stock_pool,
    verdict,
)

from pyramid_baseplate_redis import RedisContextFactory, pool_from_config
from pyramid_baseplate_redis.pool.factory import BlockingConnectionPool

ROUNDS = 300
VALUE = b"hello"

PLAIN = "plain redis-py"
NO_SDK = "ours, no SDK"
RECORDED = "ours, recorded"
OTEL_RECORDED = "OpenTelemetry's, recorded"


@dataclass(frozen=True)
class Workload:
    """A pipeline, half of it SET and half GET.

    :param calls: number of pipelines in one sample.
    :param target: of the CPU time of a recorded one, in times of plain redis-py's.
    """

    name: str
    commands: int
    transaction: bool
    calls: int
    target: float | None

    def sent_by(self, client: redis.Redis) -> Callable[[], list[Any]]:
        """Return a function that builds and sends the pipeline."""
        keys = [f"key:{number}" for number in range(self.commands // 2)]

        def send() -> list[Any]:
            with client.pipeline(transaction=self.transaction) as pipeline:
                for key in keys:
                    pipeline.set(key, VALUE)
                    pipeline.get(key)
                return pipeline.execute()

        expected = [True, VALUE] * len(keys)
        if send() != expected:
            raise AssertionError(f"{self.name}: unexpected replies")
        return send


WORKLOADS = (
    Workload("A pipeline of 10 commands", 10, transaction=False, calls=10, target=0.90),
    Workload("A pipeline of 100 commands", 100, transaction=False, calls=2, target=0.80),
    Workload("A transaction of 10 commands", 10, transaction=True, calls=10, target=None),
)


class Clients:
    """The clients that are compared, and the state of tracing in which each is measured."""

    def __init__(self, url: str) -> None:
        states = TracingStates.make()
        pool = pool_from_config({"foo.url": url}, "foo.")
        assert isinstance(pool, BlockingConnectionPool)
        stock = stock_pool(pool)
        factory = RedisContextFactory(pool, "foo")
        self._span = states.recording_provider.get_tracer("benchmark").start_span("GET /")
        instrumented = instrumented_redis_class(states.recording_provider)
        recorded = factory.make_object_for_context("foo", self._span)
        self._unrecorded: dict[str, tuple[redis.Redis, Tracing]] = {
            PLAIN: (redis.Redis(connection_pool=stock), states.none),
            NO_SDK: (factory.make_object_for_context("foo", None), states.none),
        }
        self._recorded: dict[str, tuple[redis.Redis, Tracing]] = {
            RECORDED: (recorded, states.recorded),
            OTEL_RECORDED: (instrumented(connection_pool=stock), states.recorded),
        }

    def variants(self, workload: Workload) -> list[Variant]:
        def variant(name: str, client: redis.Redis, tracing: Tracing, **recorded: Any) -> Variant:
            return Variant(name, workload.sent_by(client), workload.calls, tracing, **recorded)

        return [
            *(variant(name, *client) for name, client in self._unrecorded.items()),
            *(
                variant(name, *client, spans=1, current=self._span)
                for name, client in self._recorded.items()
            ),
        ]


def main() -> int:
    chosen = arguments(__doc__, ROUNDS)
    shown: list[Row] = []
    with running_valkey(chosen.placement) as url:
        clients = Clients(url)
        for workload in WORKLOADS:
            samples = measure(clients.variants(workload), chosen.rounds)
            targets: dict[str, float | None] = {
                PLAIN: None, NO_SDK: None, RECORDED: workload.target, OTEL_RECORDED: None,
            }  # fmt: skip
            in_cpu = rows(samples.cpu, targets, partial(ratio, samples.cpu, base=PLAIN))
            by_clock = rows(
                samples.clock, dict.fromkeys(targets), partial(ratio, samples.clock, base=PLAIN)
            )
            show(f"{workload.name}, in CPU time", "times plain", in_cpu)
            show(f"{workload.name}, by the clock", "times plain", by_clock)
            shown += (replace(row, name=f"{workload.name}, {row.name}") for row in in_cpu)
    return verdict(shown, chosen.check)


if __name__ == "__main__":
    sys.exit(main())
