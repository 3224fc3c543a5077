"""The groups of modules that are mutated, and the tests that have to notice."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
PACKAGE = ROOT / "pyramid_baseplate_redis"


# Its tests start other processes, which do not import the mutant.
NOT_MUTATED = {"pool/embedded.py"}


@dataclass(frozen=True)
class Group:
    """Modules that are tested by the same files.

    :param modules: patterns of paths, relative to the package.
    :param tests: paths relative to the repository. Only quick tests count: those marked ``slow``,
        ``timed`` or ``alone`` are left out.
    """

    name: str
    modules: tuple[str, ...]
    tests: tuple[str, ...]

    def files(self) -> list[str]:
        """Return the group's modules, as paths relative to the package."""
        found = {path for pattern in self.modules for path in PACKAGE.glob(pattern)}
        return sorted(
            str(path.relative_to(PACKAGE)) for path in found if path.name != "__init__.py"
        )


GROUPS = (
    Group(
        "pool",
        (
            "pool/fair_queue.py", "pool/circuit_breaker.py", "pool/blocking_pool.py",
            "pool/housekeeping.py", "pool/demotion.py", "pool/owned_connection.py",
        ),
        (
            "tests/pool/test_*.py", "tests/faults/test_pool_model.py",
            "tests/faults/test_releases.py",
        ),
    ),
    Group(
        "resilience",
        ("retries.py", "deadlines.py", "runtime/*.py", "pool/deadline_parser.py"),
        (
            "tests/test_retries.py", "tests/test_deadlines.py", "tests/client/test_deadlines*.py",
            "tests/runtime",
            "tests/pool/test_deadline*.py", "tests/pool/direct",
        ),
    ),
    Group(
        "operations",
        (
            "telemetry/operation.py", "telemetry/operations.py", "telemetry/call_details.py",
            "telemetry/command_spans.py", "telemetry/span_outcomes.py",
        ),
        ("tests/telemetry", "tests/client/test_client.py", "tests/client/test_pipeline.py"),
    ),
    Group(
        "thin path",
        (
            "client/base.py", "client/client.py", "client/direct_pipeline.py",
            "pool/direct/*.py", "telemetry/fast_spans/*.py",
        ),
        (
            "tests/pool/direct", "tests/telemetry/fast_spans", "tests/client",
            "tests/pool/sentinel/test_spans.py", "tests/cluster/test_direct*.py",
        ),
    ),
    Group(
        "connections",
        (
            "pool/connection.py", "pool/connections/*.py", "pool/connection_kwargs.py",
            "pool/credentials.py", "pool/error_messages.py", "pool/factory.py",
        ),
        (
            "tests/pool/test_*.py", "tests/pool/factory", "tests/client",
            "tests/pool/sentinel/test_settings.py",
        ),
    ),
    Group("sentinel", ("pool/sentinel/*.py",), ("tests/pool/sentinel",)),
    Group(
        "queues",
        ("queues/*.py", "queues/receiving/*.py", "queues/schedules/*.py", "queues/settling/*.py"),
        ("tests/queues", "tests/telemetry/test_queue_metrics.py"),
    ),
)  # fmt: skip
