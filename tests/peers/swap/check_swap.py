"""A pytest plugin that ends a run in which redis-py was not replaced after all.

It would pass, and prove nothing: pytest imports what matches ``python_files`` itself, past the hook
in ``sitecustomize``.
"""

import sys
from collections.abc import Callable, Iterator

import pytest
from swap_usage import used


def pytest_collection_finish() -> None:
    """Refuse to run tests with plain redis-py.

    :raises pytest.UsageError: if they have it.
    """
    redis = sys.modules.get("redis")
    if redis is not None and redis.Redis.__module__ != "swapped_redis":
        raise pytest.UsageError("redis.Redis was not replaced")


@pytest.fixture(scope="session", autouse=True)
def _report_what_was_used(
    record_testsuite_property: Callable[[str, object], None],
) -> Iterator[None]:
    yield
    for name, number in used.items():
        record_testsuite_property(name, number)
