"""In what our scrape differs from that of baseplate 2.7.1, and why; see the Prometheus guide."""

from __future__ import annotations

from itertools import chain

# Pools: a line of baseplate's has a "-", one of ours a "+".
POOLS = {
    "only connections that are open can be idle": """
        - redis_client_pool_idle_connections{redis_pool="foo"} 100.0
        + redis_client_pool_idle_connections{redis_pool="foo"} 2.0
        - redis_client_pool_idle_connections{redis_pool="bar"} 100.0
        + redis_client_pool_idle_connections{redis_pool="bar"} 2.0
        - redis_client_pool_idle_connections{redis_pool="down"} 100.0
        + redis_client_pool_idle_connections{redis_pool="down"} 0.0
        - redis_client_pool_idle_connections{redis_pool="lenient"} 100.0
        + redis_client_pool_idle_connections{redis_pool="lenient"} 2.0
        - redis_client_pool_idle_connections{redis_pool="watching"} 100.0
        + redis_client_pool_idle_connections{redis_pool="watching"} 2.0
        - redis_client_pool_idle_connections{redis_pool="empty"} 100.0
        + redis_client_pool_idle_connections{redis_pool="empty"} 0.0
        - redis_client_pool_idle_connections{redis_pool="scripts"} 100.0
        + redis_client_pool_idle_connections{redis_pool="scripts"} 2.0
        - redis_client_pool_idle_connections{redis_pool="invented"} 100.0
        + redis_client_pool_idle_connections{redis_pool="invented"} 2.0
    """,
    "a connection that couldn't be opened isn't open": """
        - redis_client_pool_active_connections{redis_pool="down"} 2.0
        + redis_client_pool_active_connections{redis_pool="down"} 0.0
    """,
    "a Cluster has idle connections, too": """
        + redis_client_pool_idle_connections{redis_pool="ring"} ...
    """,
    "a Cluster's max_connections is that of each of its six nodes": """
        - redis_client_pool_max_size{redis_pool="ring"} 100.0
        + redis_client_pool_max_size{redis_pool="ring"} 600.0
    """,
}
# Commands, of the client in the first place: command, redis_success, how many there were. One that
# only one side has there has a redis_client_active_requests of its own; a histogram, too, if that
# has none of this redis_success.
COMMANDS = {
    "a failure in execute(raise_on_error=False) is one": """
        - lenient pipeline true 2
        + lenient pipeline false 2
    """,
    "a watched key that has changed is no failure": """
        - watching pipeline false 2
        + watching pipeline true 2
    """,
    "what a pipeline sends at once is counted": """
        + watching watch true 2
        + watching llen true 2
    """,
    "a pipeline that sends nothing isn't counted": """
        - empty pipeline true 2
    """,
    "an EVALSHA of a script that is then loaded is no failure": """
        - scripts evalsha false 2
        - scripts evalsha true 2
        + scripts evalsha true 4
    """,
    "a name that no server has is replaced": """
        - invented madeup false 2
        + invented other false 2
    """,
}
_BOUNDS = [
    "0.0001", "0.0005", "0.001", "0.0025", "0.005", "0.01", "0.025", "0.05", "0.1", "0.25", "0.5",
    "1.0", "5.0", "15.0", "30.0",
]  # fmt: skip


def documented() -> list[str]:
    """All of them, as :func:`~.compare.differences` has them."""
    pools = chain.from_iterable(text.strip().splitlines() for text in POOLS.values())
    lines = [line.strip() for line in pools]
    rows = [line.split() for text in COMMANDS.values() for line in text.strip().splitlines()]
    for sign, client, command, success, number in rows:
        others = [row for row in rows if row[0] != sign and row[1:3] == [client, command]]
        labels = f'redis_client_name="{client}",redis_command="{command}",redis_database="0",'
        full = f'{labels}redis_success="{success}",redis_type="standalone"'
        latency = f"{sign} redis_client_latency_seconds"
        lines += [
            f"{sign} redis_client_requests_total{{{full}}} {number}.0",
            f"{latency}_count{{{full}}} {number}.0",
            f'{latency}_bucket{{le="+Inf",{full}}} {number}.0',
        ]
        if not any(row[3] == success for row in others):
            lines += [f'{latency}_bucket{{le="{bound}",{full}}} ...' for bound in _BOUNDS]
            lines.append(f"{latency}_sum{{{full}}} ...")
        if not others:
            gauge = f'{labels}redis_type="standalone"'
            lines.append(f"{sign} redis_client_active_requests{{{gauge}}} 0.0")
    return sorted(lines, key=lambda line: (line[2:], line[0]))
