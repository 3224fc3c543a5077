"""Runs one test in a process of its own: ``python -m tests.faults.runner HOW MODULE TEST ARGS``."""

from __future__ import annotations

import sys

if __name__ == "__main__":
    how, module, name, arguments = sys.argv[1:]
    if how == "gevent":
        from gevent import monkey

        monkey.patch_all()  # before anything else is imported

    import faulthandler
    import importlib
    import json
    from pathlib import Path

    # Soon enough to be seen by the one who started this, and behind every join in the tests.
    faulthandler.dump_traceback_later(70, exit=True)
    keywords = json.loads(arguments)
    keywords["tmp_path"] = Path(keywords["tmp_path"])
    getattr(importlib.import_module(module), name).itself(**keywords)
