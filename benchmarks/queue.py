"""Measure messages a second through a queue; run ``python benchmarks/queue.py``.

A module of the standard library has the same name, and this folder comes first on ``sys.path``.
"""

import sys

if __name__ == "__main__":
    sys.path.append(sys.path.pop(0))
    from message_queues import main

    sys.exit(main())
else:  # a library that another benchmark uses imports the standard library's queue
    folder = sys.path.pop(0)
    del sys.modules["queue"]
    import queue  # noqa: F401

    sys.path.insert(0, folder)
