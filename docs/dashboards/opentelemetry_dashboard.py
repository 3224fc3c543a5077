"""The dashboard for the OpenTelemetry metrics, as a Prometheus exporter names them."""

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

# Labels.
_CLIENT = "db_client_connection_pool_name"
_STATE = "db_client_connection_state"
_COMMAND = "db_operation_name"
_QUEUE = "messaging_destination_name"
_STEP = "messaging_operation_name"

# Metrics.
_OPERATION = "db_client_operation_duration_seconds"
_CONNECTIONS = "db_client_connection_count"
_MAX = "db_client_connection_max"
_WAIT = "db_client_connection_wait_time_seconds"
_CREATE = "db_client_connection_create_time_seconds"
_MESSAGING = "messaging_client_operation_duration_seconds"
_PROCESS = "messaging_process_duration_seconds"
_MESSAGES = "pyramid_baseplate_redis_message_queue"

# Selectors.
_OF_CLIENT = f'job=~"$job", {_CLIENT}=~"$client"'
_OF_QUEUE = f'job=~"$job", {_QUEUE}=~"$queue"'
_FAILED = 'error_type!=""'
_NOT_BLOCKING = f'{_OF_CLIENT}, {_COMMAND}!~"{BLOCKING}"'
_SETTLED = f'{_OF_QUEUE}, messaging_operation_type="settle"'
# Errors with a reply have the server's code, and those of this package their own panels.
_NO_REPLY = 'error_type=~"redis[.].+|.+[.]DeadlineExceededError"'
_OPEN_BREAKER = 'error_type="pyramid_baseplate_redis.exceptions.CircuitOpenError"'

_FULLEST = (
    f'max by ({_CLIENT}) ({_CONNECTIONS}{{{_OF_CLIENT}, {_STATE}="used"}}'
    f" / ignoring ({_STATE}) {_MAX}{{{_OF_CLIENT}}})"
)


def build_dashboard() -> dashboard.Dashboard:
    """Return the dashboard."""
    return new_dashboard(
        "Redis clients (OpenTelemetry)",
        "pyramid-baseplate-redis",
        "Clients, pools and message queues of pyramid_baseplate_redis, from its OpenTelemetry "
        "metrics in Prometheus.",
        [
            choice("job", "Job", f"label_values({_MAX}, job)", all_values=".*"),
            choice("client", "Client", f'label_values({_MAX}{{job=~"$job"}}, {_CLIENT})'),
            choice(
                "queue",
                "Queue",
                f'label_values({{messaging_system="redis", job=~"$job"}}, {_QUEUE})',
            ),
        ],
        {
            "Overview": _overview(),
            "Commands": _commands(),
            "Errors": _errors(),
            "Connections": _connections(),
            "Message queues": _queues(),
            "Workers": _workers(),
        },
    )


def _ratio(metric: str, selector: str, by: str = "") -> str:
    """Return the expression for the part of the events that failed."""
    failed, every = rate(metric, f"{selector}, {_FAILED}", by), rate(metric, selector, by)
    # Without "or", there is no point where nothing failed.
    return f"({failed} or 0 * {every}) / {every}"


def _of_queues(metric: str) -> str:
    """Return the expression for a queue's number, which each process reports."""
    return f"max by ({_QUEUE}) ({_MESSAGES}_{metric}{{{_OF_QUEUE}}})"


def _overview() -> list[Panel]:
    return [
        stat("Operations", PER_SECOND, rate(f"{_OPERATION}_count", _OF_CLIENT),
             "Commands and pipelines per second."),
        stat("Errors", RATIO, _ratio(f"{_OPERATION}_count", _OF_CLIENT),
             "The part of the commands and pipelines that failed.", 0.01, 0.1),
        stat("Latency, p99", SECONDS, quantile(0.99, _OPERATION, _NOT_BLOCKING),
             "99 of 100 commands and pipelines are faster. Blocking commands are left out.",
             0.1, 0.5),
        stat("Pool use", RATIO, f"max({_FULLEST})",
             "Connections in use, of those that the pool may open, in the process and the client "
             "where it is highest.", 0.9, 1),
        stat("Waiting callers", COUNT,
             f"sum(db_client_connection_pending_requests{{{_OF_CLIENT}}})",
             "Callers that wait for a connection now.", 1, 10),
        stat("Dead letters", COUNT, f"sum({_of_queues('dead_letters')})",
             "Messages that were given up.", 1),
    ]  # fmt: skip


def _commands() -> list[Panel]:
    count = f"{_OPERATION}_count"
    return [
        graph("Operations by client", PER_SECOND,
              [(f"{{{{{_CLIENT}}}}}", rate(count, _OF_CLIENT, _CLIENT))],
              "Commands and pipelines per second."),
        graph("Operations by command", PER_SECOND,
              [(f"{{{{{_COMMAND}}}}}", f"topk(10, {rate(count, _OF_CLIENT, _COMMAND)})")],
              "The ten most frequent commands. A pipeline is PIPELINE or MULTI."),
        graph("Operations by server", PER_SECOND,
              [("{{server_address}}:{{server_port}}",
                rate(count, _OF_CLIENT, "server_address, server_port"))],
              "The servers that answered: the nodes of a Cluster, or the primary that Sentinel "
              "named. A failover shows here."),
        graph("Latency", SECONDS, quantiles(_OPERATION, _NOT_BLOCKING),
              "How long commands and pipelines took for the caller, including the wait for a "
              "connection and retries. Blocking commands are left out.", 0.1, 0.5),
        graph("Latency by command", SECONDS,
              [(f"{{{{{_COMMAND}}}}}",
                f"topk(10, {quantile(0.99, _OPERATION, _NOT_BLOCKING, _COMMAND)})")],
              "The 99th percentile of the ten slowest commands."),
        graph("Operations in progress", COUNT,
              [(f"{{{{{_CLIENT}}}}}", rate(f"{_OPERATION}_sum", _NOT_BLOCKING, _CLIENT))],
              "How many commands and pipelines run at the same time, on average. As many "
              "connections are needed."),
    ]  # fmt: skip


def _errors() -> list[Panel]:
    count = f"{_OPERATION}_count"
    return [
        graph("Errors by type", PER_SECOND,
              [("{{error_type}}", rate(count, f"{_OF_CLIENT}, {_FAILED}", "error_type"))],
              "Failed commands and pipelines per second: the server's error code, or the class of "
              "the exception."),
        graph("Errors by client", RATIO,
              [(f"{{{{{_CLIENT}}}}}", _ratio(count, _OF_CLIENT, _CLIENT))],
              "The part of the commands and pipelines that failed.", 0.01, 0.1),
        graph("Errors without a reply", PER_SECOND,
              [(f"{{{{{_CLIENT}}}}}, {{{{error_type}}}}",
                rate(count, f"{_OF_CLIENT}, {_NO_REPLY}", f"{_CLIENT}, error_type"))],
              "The server could not be reached, or did not answer in time. The setting retries "
              "repeats a part of these operations; those that succeed in the end are not here, "
              "and their number of attempts is only on the span."),
        graph("Refused by the circuit breaker", PER_SECOND,
              [(f"{{{{{_CLIENT}}}}}", rate(count, f"{_OF_CLIENT}, {_OPEN_BREAKER}", _CLIENT))],
              "Commands that failed with CircuitOpenError: a process has given up on the server "
              "for a while. Above zero, the breaker is open."),
    ]  # fmt: skip


def _connections() -> list[Panel]:
    by_client = f"{{{{{_CLIENT}}}}}"
    return [
        graph("Connections", COUNT,
              [(f"{by_client} {{{{{_STATE}}}}}",
                f"sum by ({_CLIENT}, {_STATE}) ({_CONNECTIONS}{{{_OF_CLIENT}}})"),
               (f"{by_client} max", f"sum by ({_CLIENT}) ({_MAX}{{{_OF_CLIENT}}})")],
              "Open connections of all processes, and how many their pools may open."),
        graph("Pool use", RATIO, [(by_client, _FULLEST)],
              "Connections in use, of those that the pool may open, in the process where it is "
              "highest. At 100 % callers wait.", 0.9, 1),
        graph("Waiting callers", COUNT,
              [(by_client, f"sum by ({_CLIENT}) "
                           f"(db_client_connection_pending_requests{{{_OF_CLIENT}}})")],
              "Callers that wait for a connection at the time of the scrape.", 1),
        graph("Wait for a connection", SECONDS, quantiles(_WAIT, _OF_CLIENT),
              "How long callers waited until they had an open connection, including the time to "
              "open it. Callers that got none are not included.", 0.1),
        graph("Pool timeouts", PER_SECOND,
              [(by_client, rate("db_client_connection_timeouts_total", _OF_CLIENT, _CLIENT))],
              "Callers that waited in vain: they got a PoolTimeoutError."),
        graph("Use of a connection", SECONDS,
              quantiles("db_client_connection_use_time_seconds", _OF_CLIENT),
              "How long a connection was checked out. Blocking commands and subscribers keep "
              "theirs for long."),
        graph("New connections", PER_SECOND,
              [(by_client, rate(f"{_CREATE}_count", _OF_CLIENT, _CLIENT))],
              "Connections opened per second. In a process that runs for a while it is near "
              "zero."),
        graph("Time to connect", SECONDS, quantiles(_CREATE, _OF_CLIENT),
              "How long it took to connect and log in."),
    ]  # fmt: skip


def _queues() -> list[Panel]:
    by_queue = f"{{{{{_QUEUE}}}}}"
    by_step = f"{by_queue} {{{{{_STEP}}}}}"
    return [
        graph("Length", COUNT, [(by_queue, _of_queues("length"))],
              "Messages that can be received or are being processed."),
        graph("In flight, delayed, waiting", COUNT,
              [(f"{by_queue} {name.replace('_', ' ')}", _of_queues(name))
               for name in ("in_flight", "delayed", "waiting")],
              "Messages of durable queues that were received and are not acknowledged, that are "
              "not due yet, and that failed and wait for their next attempt."),
        graph("Age of the oldest message", SECONDS, [(by_queue, _of_queues("oldest_age_seconds"))],
              "How long ago the oldest message of a durable queue was put.", 300),
        graph("Dead letters", COUNT, [(by_queue, _of_queues("dead_letters"))],
              "Messages of durable queues that were given up.", 1),
        graph("Sent and received", PER_SECOND,
              [(f"{by_queue} sent",
                rate("messaging_client_sent_messages_total", _OF_QUEUE, _QUEUE)),
               (f"{by_queue} received",
                rate("messaging_client_consumed_messages_total", _OF_QUEUE, _QUEUE))],
              "Messages per second. A message that failed is received again."),
        graph("Settled", PER_SECOND,
              [(by_step, rate(f"{_MESSAGING}_count", _SETTLED, f"{_QUEUE}, {_STEP}"))],
              "Calls per second: ack acknowledges messages, nack gives them back for another "
              "attempt, dead_letter gives one up. A call may settle several messages."),
        graph("Failed queue operations", PER_SECOND,
              [(f"{by_step} {{{{error_type}}}}",
                rate(f"{_MESSAGING}_count", f"{_OF_QUEUE}, {_FAILED}",
                     f"{_QUEUE}, {_STEP}, error_type"))],
              "Sending, receiving or settling failed: the server's error code, or the class of "
              "the exception."),
        graph("Time to send or settle", SECONDS,
              [(f"{{{{{_STEP}}}}}",
                quantile(0.99, _MESSAGING,
                         f'{_OF_QUEUE}, messaging_operation_type!="receive"', _STEP))],
              "The 99th percentile. Receiving is left out, because it waits for a message."),
    ]  # fmt: skip


def _workers() -> list[Panel]:
    by_queue = f"{{{{{_QUEUE}}}}}"
    count = f"{_PROCESS}_count"
    return [
        graph("Processed", PER_SECOND, [(by_queue, rate(count, _OF_QUEUE, _QUEUE))],
              "How often a handler, or the block of receive(), has ended."),
        graph("Failures by type", PER_SECOND,
              [(f"{by_queue} {{{{error_type}}}}",
                rate(count, f"{_OF_QUEUE}, {_FAILED}", f"{_QUEUE}, error_type"))],
              "Exceptions of handlers per second."),
        graph("Failures", RATIO, [(by_queue, _ratio(count, _OF_QUEUE, _QUEUE))],
              "The part of the attempts that failed.", 0.1),
        graph("Time to process", SECONDS, quantiles(_PROCESS, _OF_QUEUE),
              "How long handlers took. A handler that takes longer than the queue's lease loses "
              "its message to another consumer."),
        graph("Busy handlers", COUNT, [(by_queue, rate(f"{_PROCESS}_sum", _OF_QUEUE, _QUEUE))],
              "How many handlers run at the same time, on average, in all workers. At the number "
              "of their threads, add workers."),
    ]  # fmt: skip
