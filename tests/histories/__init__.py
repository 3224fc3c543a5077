"""Histories of what clients asked and got, and checkers of the contracts that they have to keep.

- ``recording`` records the calls of threads, greenlets or processes with their times.
- ``journal`` records the events of a worker process, which may be killed at any moment.
- ``register`` decides whether a key of one server behaved as a linearizable register.
- ``queue_contract`` decides whether a durable queue kept its contract.
"""
