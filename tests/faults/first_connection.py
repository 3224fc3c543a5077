"""Forks while another thread makes a process's first connection: ``first_connection.py URL``.

Exits with 1 if the child can't connect then. Run as a process of its own: what the first connection
imports, others find imported.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from importlib.machinery import SourceFileLoader
from types import ModuleType

from pyramid_baseplate_redis import MonitoredRedisConnection, pool_from_config

if __name__ == "__main__":
    pool = pool_from_config({"foo.url": sys.argv[1]}, "foo.")
    client = MonitoredRedisConnection("foo", None, pool)
    importing, forked = threading.Event(), threading.Event()
    exec_module = SourceFileLoader.exec_module

    def exec_slowly(loader: SourceFileLoader, module: ModuleType) -> None:
        importing.set()
        forked.wait(30)
        exec_module(loader, module)

    SourceFileLoader.exec_module = exec_slowly  # type: ignore[method-assign]

    def connect() -> None:
        client.ping()
        importing.set()  # or it never was

    thread = threading.Thread(target=connect)
    thread.start()
    importing.wait(30)
    child = os.fork()
    if not child:
        forked.set()
        signal.alarm(5)
        client.ping()
        os._exit(0)
    _, status = os.waitpid(child, 0)
    forked.set()
    thread.join()
    sys.exit(status != 0)
