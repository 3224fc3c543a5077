"""The commands that both applications send, in Python that both environments run.

``context`` has the clients ``foo``, ``bar`` in database 3, ``down`` whose server isn't there,
``small`` with one connection, and ``ring`` on a Cluster; and one for each thing that is told
differently, with its name for ``redis_client_name``.
"""

from typing import Any

import redis


def run(context: Any) -> None:
    """Send all of them; once in each worker."""
    context.foo.flushall()
    run_what_is_told_alike(context)
    run_what_is_told_differently(context)


def run_what_is_told_alike(context: Any) -> None:
    for number in range(3):
        context.foo.set("text", number)
        context.foo.get("text")
    context.foo.get("missing")
    context.foo.mget("text", "missing")
    context.foo.config_get("maxmemory")
    context.foo.execute_command("get", "text")
    fails(lambda: context.foo.lpush("text", "value"))
    fails(lambda: context.foo.eval("return redis.error_reply('no')", 0))
    context.bar.incr("number")
    fails(lambda: context.down.get("text"))
    held = context.small.connection_pool.get_connection("GET")
    fails(lambda: context.small.get("text"))
    context.small.connection_pool.release(held)

    with context.foo.pipeline("load") as pipeline:
        pipeline.set("text", "value")
        pipeline.get("text")
        pipeline.execute()
    with context.foo.pipeline("fails", transaction=False) as pipeline:
        pipeline.lpush("text", "value")
        fails(pipeline.execute)

    for number in range(3):
        context.ring.set("text", number)
        context.ring.get("text")
    fails(lambda: context.ring.lpush("text", "value"))
    with context.ring.pipeline("load") as pipeline:
        pipeline.set("text", "value")
        pipeline.get("other")
        pipeline.execute()


def run_what_is_told_differently(context: Any) -> None:
    context.lenient.set("lenient", "value")
    with context.lenient.pipeline("load") as pipeline:
        pipeline.lpush("lenient", "value")
        pipeline.execute(raise_on_error=False)

    with context.watching.pipeline("load") as pipeline:
        pipeline.watch("watched")
        pipeline.llen("nothing")
        context.foo.append("watched", "more")
        pipeline.multi()
        pipeline.set("watched", "mine")
        fails(pipeline.execute)

    with context.empty.pipeline("load") as pipeline:
        pipeline.execute()

    context.scripts.script_flush()
    context.scripts.register_script("return 1")()

    fails(lambda: context.invented.execute_command("MADEUP"))


def fails(call: Any) -> None:
    try:
        call()
    except redis.RedisError:
        return
    raise AssertionError("it should have failed")
