"""The hunt for wrong replies: more workers than connections, interrupted, cut off, killed, forked.

    python -m tests.faults.hunt --seconds 600 [--topology sentinel] [--gevent] [--seed N]

The reply to each command identifies the command, so a reply that went to another caller is seen.
Counters are incremented by transactions that watch them, and are compared with their history. At
the end each slot of the pools must be free, each connection that a server sees must be one of the
pools', and every worker must have ended. Errors of the network, the hunt's own interruptions and
the errors that the package documents are expected; every other error is a failure.

``--topology`` chooses the servers: one server, a primary and a replica behind three Sentinels, or a
Cluster of six nodes. Those fail over, planned and unplanned, and the Cluster's slots move.

``--stock`` hunts in redis-py's own pool and client, on one server, to show that the hunt finds what
it is for. ``--planted`` plants a mistake in the clients instead: replies that are swapped, a slot
that is lost, or a transaction that is acknowledged but not executed. ``--without`` leaves some of
the faults out.
"""

from __future__ import annotations

import argparse
import os
import sys

from .hunting.hunt import FAULTS, Hunt
from .hunting.planted import PLANTED
from .hunting.weather.process import TOPOLOGIES


def main() -> int:
    parser = argparse.ArgumentParser(
        prog=f"python -m {__spec__.name}",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--topology", choices=TOPOLOGIES, default="standalone")
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--gevent", action="store_true", help="greenlets instead of threads")
    parser.add_argument("--stock", action="store_true", help="redis-py's own pool and client")
    parser.add_argument("--planted", choices=PLANTED, help="a mistake that has to be found")
    parser.add_argument("--without", choices=FAULTS, action="append", default=[])
    given = parser.parse_args()
    if given.stock and given.topology != "standalone":
        parser.error("--stock: only for --topology standalone")
    if given.gevent and "gevent" not in sys.modules:  # it has to come before everything else
        module = ["-m", "gevent.monkey", "--module", __spec__.name]
        os.execv(sys.executable, [sys.executable, *module, *sys.argv[1:]])
    return Hunt(
        topology=given.topology,
        seconds=given.seconds,
        seed=given.seed,
        faults=frozenset(FAULTS) - {*given.without},
        stock=given.stock,
        gevent=given.gevent,
        planted=given.planted,
    ).main()


if __name__ == "__main__":
    sys.exit(main())
