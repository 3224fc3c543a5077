"""Measure a GET and a pipeline on a Cluster, and the creation of a request's client.

Run ``python benchmarks/cluster.py``. It starts three primaries and three replicas.
"""

from __future__ import annotations

import sys
import tempfile
from functools import partial
from pathlib import Path

from measuring import (
    TracingStates,
    Variant,
    arguments,
    measure,
    ratio,
    rows,
    running_valkey,
    show,
    verdict,
)
from redis.cluster import ClusterNode, RedisCluster
from redis.maint_notifications import MaintNotificationsConfig

from pyramid_baseplate_redis import (
    ClusterRedisContextFactory,
    RedisContextFactory,
    cluster_pool_from_config,
    pool_from_config,
)

sys.path.append(str(Path(__file__).parents[1]))
from tests.support.topologies import Cluster, running_cluster

ROUNDS = 1000
KEY = "greeting"
KEYS = [f"key:{number}" for number in range(5)]  # on all nodes

PLAIN = "plain RedisCluster"
NO_SDK = "ours, no SDK"
RECORDED = "ours, recorded"
BIND_STANDALONE = "bind a server's client"
BIND = "bind a Cluster's client"

AGAINST_PLAIN: dict[str, float | None] = {PLAIN: None, NO_SDK: 0.80, RECORDED: 0.90}
OF_PIPELINE: dict[str, float | None] = {PLAIN: None, NO_SDK: 0.85, RECORDED: 0.90}
BINDING: dict[str, float | None] = {BIND_STANDALONE: None, BIND: 2.0}


def send_pipeline(client: RedisCluster) -> None:
    """Send ten commands."""
    with client.pipeline() as pipeline:
        for key in KEYS:
            pipeline.set(key, b"hello")
            pipeline.get(key)
        if pipeline.execute() != [True, b"hello"] * len(KEYS):
            raise AssertionError("unexpected replies")


def variants(cluster: Cluster, url: str) -> tuple[list[Variant], list[Variant]]:
    """Return the variants of single commands and of a client's creation, and of pipelines."""
    states = TracingStates.make()
    shared = cluster_pool_from_config({"foo.url": cluster.url}, "foo.")
    factory = ClusterRedisContextFactory(shared, "foo")
    standalone = RedisContextFactory(pool_from_config({"foo.url": url}, "foo."), "foo")
    plain = RedisCluster(
        startup_nodes=[ClusterNode(node.host, node.port) for node in cluster.nodes],
        maint_notifications_config=MaintNotificationsConfig(enabled=False),
        socket_timeout=5,
        socket_connect_timeout=5,
        protocol=3,
    )
    plain.set(KEY, "hello")
    span = states.recording_provider.get_tracer("benchmark").start_span("GET /")
    recorded = factory.make_object_for_context("foo", span)
    no_span = factory.make_object_for_context("foo", None)
    recorded.get(KEY)  # creates the RedisCluster of this process
    bind = partial(factory.make_object_for_context, "foo", span)
    bind_standalone = partial(standalone.make_object_for_context, "foo", span)
    pipelines = [
        Variant(PLAIN, partial(send_pipeline, plain), 5, states.none),
        Variant(NO_SDK, partial(send_pipeline, no_span), 5, states.none),
        Variant(
            RECORDED, partial(send_pipeline, recorded), 5, states.recorded, spans=1, current=span
        ),
    ]
    single = [
        Variant(PLAIN, partial(plain.get, KEY), 20, states.none),
        Variant(NO_SDK, partial(no_span.get, KEY), 20, states.none),
        Variant(RECORDED, partial(recorded.get, KEY), 20, states.recorded, spans=1, current=span),
        Variant(BIND_STANDALONE, bind_standalone, 200, states.none),
        Variant(BIND, bind, 200, states.none),
    ]
    return single, pipelines


def main() -> int:
    chosen = arguments(__doc__, ROUNDS)
    with (
        tempfile.TemporaryDirectory() as directory,
        running_cluster("valkey", Path(directory)) as cluster,
        running_valkey() as url,
    ):
        single, pipelines = variants(cluster, url)
        samples = measure(single, chosen.rounds)
        of_pipeline = measure(pipelines, chosen.rounds)
    in_cpu = rows(samples.cpu, AGAINST_PLAIN, partial(ratio, samples.cpu, base=PLAIN))
    by_clock = rows(
        samples.clock, dict.fromkeys(AGAINST_PLAIN), partial(ratio, samples.clock, base=PLAIN)
    )
    batches = rows(of_pipeline.cpu, OF_PIPELINE, partial(ratio, of_pipeline.cpu, base=PLAIN))
    binding = rows(samples.cpu, BINDING, partial(ratio, samples.cpu, base=BIND_STANDALONE))
    show("A GET of a Cluster, in CPU time", "times plain", in_cpu)
    show("A GET of a Cluster, by the clock", "times plain", by_clock)
    show("A pipeline of 10 commands on all nodes, in CPU time", "times plain", batches)
    show("A request's client, in CPU time", "of a server's", binding)
    return verdict([*in_cpu, *batches, *binding], chosen.check)


if __name__ == "__main__":
    sys.exit(main())
