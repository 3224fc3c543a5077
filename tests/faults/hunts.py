"""All hunts: of each topology, with threads and with greenlets, which run at the same time.

    python -m tests.faults.hunts --seconds 60

The exit code is 1 if one of them found anything. Each pair takes the time given and some 20 seconds
to start and to repair the servers, and loads two processors.
"""

from __future__ import annotations

import argparse
import subprocess
import sys

from .hunting.weather.process import TOPOLOGIES

_MOST_SECONDS_MORE = 300


def main() -> int:
    parser = argparse.ArgumentParser(prog=f"python -m {__spec__.name}", description=__doc__)
    parser.add_argument("--seconds", default="60", help="of each hunt")
    parser.add_argument("--seed", default="1")
    given = parser.parse_args()
    command = [sys.executable, "-m", "tests.faults.hunt", "--seconds", given.seconds]
    command += ["--seed", given.seed]
    failed = False
    for topology in TOPOLOGIES:
        hunts = [
            subprocess.Popen(
                [*command, "--topology", topology, *crew], stdout=subprocess.PIPE, text=True
            )
            for crew in ([], ["--gevent"])
        ]
        for hunt in hunts:
            output, _ = hunt.communicate(timeout=float(given.seconds) + _MOST_SECONDS_MORE)
            sys.stdout.write(output)
            failed = failed or hunt.returncode != 0
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
