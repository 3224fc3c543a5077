"""Messages a second through a queue; run it with ``python benchmarks/queue.py``.

A module of the standard library has this name, too, and this folder is in front of it.
"""

import sys

if __name__ == "__main__":
    sys.path.append(sys.path.pop(0))
    from message_queues import main

    sys.exit(main())
else:  # what another benchmark uses asks for the standard library's
    folder = sys.path.pop(0)
    del sys.modules["queue"]
    import queue  # noqa: F401

    sys.path.insert(0, folder)
