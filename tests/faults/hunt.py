"""The hunt for wrong replies: more workers than connections, interrupted, cut off, killed, forked.

    python -m tests.faults.hunt --seconds 600 [--gevent] [--seed N]

Every command's reply says which question it answers, so a reply that went to somebody else is
seen. At the end each slot of the pools has to be free, each connection that the server sees has to
be one of theirs, and every worker has to have come home. What it reports is a failure unless it is
an error of the network, an interruption of its own, or an error that the package documents.

``--stock`` hunts in redis-py's own pool and client, to see that it finds what it is for: within
seconds they give wrong replies and lose slots, and workers are stuck. ``--without`` leaves some of
the faults out, to see which of them it takes.
"""

from __future__ import annotations

import argparse
import os
import sys

from .hunting.hunt import FAULTS, Hunt


def main() -> int:
    parser = argparse.ArgumentParser(prog=f"python -m {__spec__.name}", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--gevent", action="store_true", help="greenlets instead of threads")
    parser.add_argument("--stock", action="store_true", help="redis-py's own pool and client")
    parser.add_argument("--without", choices=FAULTS, action="append", default=[])
    given = parser.parse_args()
    if given.gevent and "gevent" not in sys.modules:  # it has to come before everything else
        module = ["-m", "gevent.monkey", "--module", __spec__.name]
        os.execv(sys.executable, [sys.executable, *module, *sys.argv[1:]])
    return Hunt(
        seconds=given.seconds,
        seed=given.seed,
        faults=frozenset(FAULTS) - {*given.without},
        stock=given.stock,
        gevent=given.gevent,
    ).main()


if __name__ == "__main__":
    sys.exit(main())
