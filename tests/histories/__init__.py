"""Histories of what clients asked and got, and checkers: does a contract explain them?

- ``recording`` records the calls of threads, greenlets or processes with their times.
- ``register`` decides whether a key of one server behaved as a linearizable register.
"""
