"""A pytest plugin in the place of lovely-pytest-docker: the servers run already."""

import pytest

_STARTED = ("redis-basic", "redis-auth", "redis-uds", "redis-uds-auth", "redis-sentinel")


class _Services:
    def start(self, service: str) -> None:
        if service not in _STARTED:
            pytest.skip(f"{service} is not started")

    def wait_for_service(self, *_: object) -> None:
        """Return at once."""


@pytest.fixture(scope="session")
def docker_services() -> _Services:
    """Skip the tests of servers that don't run."""
    return _Services()
