"""Response callbacks that an application sets on its client of a Cluster."""

from __future__ import annotations

from typing import Any

from opentelemetry.trace import INVALID_SPAN

from pyramid_baseplate_redis import MonitoredRedisClusterConnection, cluster_pool_from_config

from ..support.topologies import Cluster


def test_a_callback_on_a_copy_of_a_client_with_callbacks_does_not_reach_the_client(
    cluster: Cluster,
) -> None:
    pool = cluster_pool_from_config({"foo.url": cluster.url}, "foo.")
    client: Any = MonitoredRedisClusterConnection("foo", None, pool)
    client.set_response_callback("GET", lambda response, **options: "first")
    twin: Any = client.bound_to(INVALID_SPAN)
    twin.set_response_callback("GET", lambda response, **options: "second")
    assert (client.get("foo"), twin.get("foo")) == ("first", "second")
    pool.disconnect()
