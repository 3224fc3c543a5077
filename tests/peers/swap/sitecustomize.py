"""Python imports this module when it starts, in every process of a suite that runs with our client.

A pytest plugin would do for one process only; workers are often started as programs of their own.
"""

from wrapt import when_imported


@when_imported("redis")
def _swap(redis):  # type: ignore[no-untyped-def]
    from swapped_redis import swap

    swap()
