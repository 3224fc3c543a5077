"""The dashboard for the metrics with baseplate's names."""

from __future__ import annotations

from blocking_commands import BLOCKING
from grafana_foundation_sdk.models import dashboard
from widgets import (
    COUNT,
    PER_SECOND,
    RATIO,
    SECONDS,
    Panel,
    choice,
    graph,
    new_dashboard,
    quantile,
    quantiles,
    rate,
    stat,
)

_REQUESTS = "redis_client_requests_total"
_LATENCY = "redis_client_latency_seconds"
_ACTIVE = "redis_client_active_requests"
_OPEN = "redis_client_pool_active_connections"
_IDLE = "redis_client_pool_idle_connections"
_MAX = "redis_client_pool_max_size"

_OF_CLIENT = 'job=~"$job", redis_client_name=~"$client"'
_OF_POOL = 'job=~"$job", redis_pool=~"$pool"'
_NOT_BLOCKING = f'{_OF_CLIENT}, redis_command!~"{BLOCKING.lower()}"'
_FAILED = 'redis_success="false"'

_USED = f"{_OPEN}{{{_OF_POOL}}} - {_IDLE}{{{_OF_POOL}}}"
_FULLEST = f"max by (redis_pool) (({_USED}) / {_MAX}{{{_OF_POOL}}})"


def build_dashboard() -> dashboard.Dashboard:
    """Return the dashboard."""
    return new_dashboard(
        "Redis clients (baseplate)",
        "pyramid-baseplate-redis-prometheus",
        "Clients and pools of pyramid_baseplate_redis, from its Prometheus metrics with "
        "baseplate's names.",
        [
            choice("job", "Job", f"label_values({_MAX}, job)", all_values=".*"),
            # A client without client_name has an empty name, which only ".*" includes.
            choice("client", "Client",
                   f'label_values({_REQUESTS}{{job=~"$job"}}, redis_client_name)',
                   all_values=".*"),
            choice("pool", "Pool", f'label_values({_MAX}{{job=~"$job"}}, redis_pool)'),
        ],
        {"Overview": _overview(), "Commands": _commands(), "Connections": _connections()},
    )  # fmt: skip


def _ratio(by: str = "") -> str:
    """Return the expression for the part of the operations that failed."""
    failed, every = rate(_REQUESTS, f"{_OF_CLIENT}, {_FAILED}", by), rate(_REQUESTS, _OF_CLIENT, by)
    # Without "or", there is no point where nothing failed.
    return f"({failed} or 0 * {every}) / {every}"


def _overview() -> list[Panel]:
    return [
        stat("Operations", PER_SECOND, rate(_REQUESTS, _OF_CLIENT),
             "Commands and pipelines per second."),
        stat("Errors", RATIO, _ratio(), "The part of the commands and pipelines that failed.",
             0.01, 0.1),
        stat("Latency, p99", SECONDS, quantile(0.99, _LATENCY, _NOT_BLOCKING),
             "99 of 100 commands and pipelines are faster. Blocking commands are left out.",
             0.1, 0.5),
        stat("In progress", COUNT, f"sum({_ACTIVE}{{{_OF_CLIENT}}})",
             "Commands and pipelines that are running now."),
        stat("Pool use", RATIO, f"max({_FULLEST})",
             "Connections in use, of those that the pool may open, where it is highest. In "
             "prometheus_client's multiprocess mode it is the average of the processes.", 0.9, 1),
        stat("Open connections", COUNT, f"sum({_OPEN}{{{_OF_POOL}}})",
             "Open connections, including idle ones."),
    ]  # fmt: skip


def _commands() -> list[Panel]:
    return [
        graph("Operations by client", PER_SECOND,
              [("{{redis_client_name}} {{redis_type}}",
                rate(_REQUESTS, _OF_CLIENT, "redis_client_name, redis_type"))],
              "Commands and pipelines per second. The name is that of client_name, and may be "
              "empty."),
        graph("Operations by command", PER_SECOND,
              [("{{redis_command}}",
                f"topk(10, {rate(_REQUESTS, _OF_CLIENT, 'redis_command')})")],
              "The ten most frequent commands. All pipelines are called pipeline."),
        graph("Operations by database", PER_SECOND,
              [("{{redis_database}}", rate(_REQUESTS, _OF_CLIENT, "redis_database"))],
              "Commands and pipelines per second."),
        graph("Latency", SECONDS, quantiles(_LATENCY, _NOT_BLOCKING),
              "How long commands and pipelines took for the caller, including the wait for a "
              "connection and retries. Blocking commands are left out.", 0.1, 0.5),
        graph("Latency by command", SECONDS,
              [("{{redis_command}}",
                f"topk(10, {quantile(0.99, _LATENCY, _NOT_BLOCKING, 'redis_command')})")],
              "The 99th percentile of the ten slowest commands."),
        graph("Operations in progress", COUNT,
              [("{{redis_command}}",
                f"topk(10, sum by (redis_command) ({_ACTIVE}{{{_OF_CLIENT}}}))")],
              "Commands and pipelines that are running at the time of the scrape. Consumers of a "
              "queue are blpop and xreadgroup."),
        graph("Errors by command", PER_SECOND,
              [("{{redis_command}}", rate(_REQUESTS, f"{_OF_CLIENT}, {_FAILED}", "redis_command"))],
              "Failed commands and pipelines per second. The metrics of baseplate have no type of "
              "error; see the log, the spans or the OpenTelemetry metrics."),
        graph("Errors by client", RATIO, [("{{redis_client_name}}", _ratio("redis_client_name"))],
              "The part of the commands and pipelines that failed.", 0.01, 0.1),
    ]  # fmt: skip


def _connections() -> list[Panel]:
    return [
        graph("Connections", COUNT,
              [("{{redis_pool}} used", f"sum by (redis_pool) ({_USED})"),
               ("{{redis_pool}} idle", f"sum by (redis_pool) ({_IDLE}{{{_OF_POOL}}})"),
               ("{{redis_pool}} max", f"sum by (redis_pool) ({_MAX}{{{_OF_POOL}}})")],
              "Open connections of all processes, and how many their pools may open."),
        graph("Pool use", RATIO, [("{{redis_pool}}", _FULLEST)],
              "Connections in use, of those that the pool may open, where it is highest. At 100 % "
              "callers wait.", 0.9, 1),
    ]  # fmt: skip
