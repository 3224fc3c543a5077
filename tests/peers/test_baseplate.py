"""Two gunicorn workers tell Prometheus what two of baseplate 2.7.1 tell, line by line."""

from __future__ import annotations

import pytest

from .compare import NotInstallable, both_scrapes, differences, installed_baseplate
from .documented import documented

pytestmark = pytest.mark.slow("installs baseplate, and runs four gunicorn workers")

Scrapes = tuple[list[str], list[str]]


@pytest.fixture(scope="module")
def scrapes(tmp_path_factory: pytest.TempPathFactory) -> Scrapes:
    """Baseplate's lines, and ours."""
    try:
        python = installed_baseplate()
    except NotInstallable as reason:
        pytest.skip(f"baseplate 2.7.1 can't be installed here: {reason}")
    return both_scrapes(python, tmp_path_factory.mktemp("peers"))


def test_the_lines_differ_where_the_documentation_says_so_and_nowhere_else(
    scrapes: Scrapes,
) -> None:
    theirs, ours = scrapes
    assert differences(theirs, ours) == documented()


@pytest.mark.parametrize(
    "part",
    [
        "# TYPE redis_client_latency_seconds histogram",
        "# TYPE redis_client_requests_total counter",
        "# TYPE redis_client_active_requests gauge",
        "# TYPE redis_client_pool_max_size gauge",
        "# TYPE redis_client_pool_idle_connections gauge",
        "# TYPE redis_client_pool_active_connections gauge",
        'redis_command="pipeline"',
        'redis_command="config get"',
        'redis_database="3"',
        'redis_type="cluster"',
        'redis_success="false"',
    ],
)
def test_both_have_lines_with(scrapes: Scrapes, part: str) -> None:
    theirs, ours = scrapes
    assert [line for line in theirs if part in line and line in ours]
