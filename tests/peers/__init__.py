"""What this package is compared with.

- :mod:`.suites` runs the tests of other projects with plain redis-py and with our client in its
  place: ``python -m tests.peers.suites NAME CHECKOUT``.
  See docs/explanation/peers.rst for the results.
- :mod:`.compare` compares the Prometheus metrics with those of baseplate.
"""
