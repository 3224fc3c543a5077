"""On a Cluster: our client returns and raises what RedisCluster does."""

from __future__ import annotations

from functools import partial

import pytest

from ..support.topologies import Cluster
from .clients import KEY, PROTOCOLS, Shape, our_cluster, plain_client, plain_cluster
from .comparison import Comparison
from .entries import Group
from .marks import groups_and_shapes, shapes
from .outcomes import Call, alone, in_pipeline
from .tables import DATA, ON_A_CLUSTER

GROUPS = pytest.mark.parametrize("group", ON_A_CLUSTER, ids=str)
PIPED = groups_and_shapes(ON_A_CLUSTER, DATA, PROTOCOLS)


def _check(cluster: Cluster, group: Group, call: Call, shape: Shape) -> None:
    with plain_cluster(cluster) as setup, plain_client(cluster.node_of(KEY).port) as node:
        Comparison(
            setup,
            node,
            partial(plain_cluster, cluster, shape),
            partial(our_cluster, cluster, shape),
        ).check(group, call)


@shapes(PROTOCOLS)
@GROUPS
def test_a_command_returns_what_redis_py_does(
    quick_cluster: Cluster, group: Group, shape: Shape
) -> None:
    _check(quick_cluster, group, alone, shape)


@PIPED
def test_a_pipeline_returns_what_redis_py_s_does(
    quick_cluster: Cluster, group: Group, shape: Shape
) -> None:
    _check(quick_cluster, group, in_pipeline, shape)
