"""The fields of ClientSettings: each setting of a client, with its parser, default and meaning.

The reference of all settings in the documentation is generated from these fields.
"""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from . import parsers
from .fields import redis_setting, setting, tls_setting
from .url import RedisURL

_FIVE_SECONDS = timedelta(seconds=5)


@dataclass(frozen=True)
class ClientFields:
    """The fields of :class:`.ClientSettings`.

    Every field with a parser is a setting of the same name, ``foo.<field>``. The defaults are this
    package's own, since redis-py changed its defaults twice in two major versions.
    """

    prefix: str
    parsed_url: RedisURL = field(repr=False)
    # The settings that come from the URL: its user name, password and query arguments.
    in_url: frozenset[str] = field(default=frozenset(), repr=False)
    # The settings in the configuration, and the pool's keyword arguments, which override them.
    in_config: frozenset[str] = field(default=frozenset(), repr=False, compare=False)
    keywords: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)

    url_env: str | None = setting(parsers.variable_name)
    """The environment variable that has the URL, instead of ``foo.url``."""
    url_file: str | None = setting(parsers.path_of_url)
    """The file that has the URL, instead of ``foo.url``."""
    max_connections: int = redis_setting(parsers.whole_number(1, 65_535), 50)
    """The size of the connection pool, in each process. On a Cluster, for each node."""
    pool_timeout: timedelta = redis_setting(parsers.Timespan, _FIVE_SECONDS, keyword="timeout")
    """The longest time that a command waits for a free connection."""
    socket_connect_timeout: timedelta = redis_setting(parsers.positive_timespan, _FIVE_SECONDS)
    """The longest time for opening a connection, for all addresses of a host together."""
    socket_timeout: timedelta = redis_setting(parsers.positive_timespan, _FIVE_SECONDS)
    """The longest time that a command waits for its whole reply."""
    deadline: timedelta | None = setting(parsers.positive_timespan)
    """The longest time for one call in all, including the wait for a connection, connecting,
    sending and retries. There is no limit by default.
    """
    socket_keepalive: bool = redis_setting(parsers.boolean, True)
    """Use TCP keepalive on connections."""
    health_check_interval: timedelta = redis_setting(parsers.Timespan, timedelta(0))
    """PING a connection before use if it was idle for longer than this. 0 never does."""
    max_idle_time: timedelta = setting(parsers.Timespan, timedelta(minutes=10))
    """Close spare connections that were idle for this long. 0 never does."""
    max_lifetime: timedelta = setting(parsers.Timespan, timedelta(hours=1))
    """Replace a connection of this age. Up to a tenth is subtracted at random, so that not all
    connections are replaced at once. 0 never does.
    """
    leak_warning: timedelta = setting(parsers.Timespan, timedelta(0))
    """Log a connection that is in use for longer than this, once, with the line that checked it
    out. 0 never does.
    """
    retries: int = setting(parsers.whole_number(0, 100), 0)
    """The number of times that a command is tried again after a connection error or a timeout.
    A write that the server may have executed is never repeated.
    """
    retry_budget: timedelta = setting(parsers.Timespan, _FIVE_SECONDS)
    """No retry begins later than this after the first attempt."""
    breaker_failures: int = setting(parsers.whole_number(0, 1_000_000), 0)
    """Open the circuit breaker after this many connection failures in a row. 0 never does."""
    breaker_reset: timedelta = setting(parsers.positive_timespan, _FIVE_SECONDS)
    """The time for which an open breaker keeps commands from the server."""
    required: bool = setting(parsers.boolean, True)
    """Let the health view fail if this client fails."""
    health_timeout: timedelta = setting(parsers.positive_timespan, timedelta(seconds=1))
    """The longest time that a health probe waits for this client's server."""
    # By default redis-py speaks RESP3 and converts replies to the shapes of RESP2. An explicit
    # number turns the conversion off, so redis-py gets one only if the application sets it.
    protocol: int | None = redis_setting(parsers.whole_number(2, 3))
    """The RESP version, 2 or 3. Leave it unset unless you need one."""
    decode_responses: bool = redis_setting(parsers.boolean, False)
    """Return text instead of bytes."""
    client_name: str | None = redis_setting(parsers.connection_name)
    """The name of the connections in ``CLIENT LIST``."""
    username: str | None = redis_setting(parsers.text)
    """The ACL user, unless the URL has it."""
    password: str | None = redis_setting(parsers.secret, hidden=True)
    """The password, unless the URL has it."""
    password_file: str | None = setting(parsers.path, hidden=True)
    """A file with the password. It is read for each new connection, so a rotated password is picked
    up.
    """

    ssl_ca_certs: str | None = tls_setting(parsers.path)
    """A file with the certificates of the authorities to trust. The default is the system's."""
    ssl_ca_path: str | None = tls_setting(parsers.path)
    """A directory with files of such certificates."""
    ssl_ca_data: str | None = tls_setting(parsers.lines, hidden=True)
    """The certificates of the authorities to trust, in PEM."""
    ssl_certfile: str | None = tls_setting(parsers.path)
    """The client's own certificate."""
    ssl_keyfile: str | None = tls_setting(parsers.path)
    """The key of the client's own certificate, if it is in a file of its own."""
    ssl_password: str | None = tls_setting(parsers.secret, hidden=True)
    """The password of the key of the client's own certificate."""
    ssl_cert_reqs: str = tls_setting(parsers.certificate_requirements, "required")
    """``required``, ``optional`` or ``none``: whether to verify the server's certificate. Python
    treats ``optional`` as ``required``.
    """
    ssl_check_hostname: bool = tls_setting(parsers.boolean, True)
    """Require that the certificate is for the host's name."""
    ssl_min_version: ssl.TLSVersion = tls_setting(parsers.tls_version, ssl.TLSVersion.TLSv1_2)
    """``TLSv1.2`` or ``TLSv1.3``."""
    ssl_ciphers: str | None = tls_setting(parsers.text)
    """The ciphers to allow, in OpenSSL's notation."""

    sentinel_username: str | None = setting(parsers.text, only="Sentinel")
    """The ACL user of the Sentinels, which have accounts of their own."""
    sentinel_password: str | None = setting(parsers.secret, hidden=True, only="Sentinel")
    """The password of the Sentinels."""
    sentinel_password_file: str | None = setting(parsers.path, hidden=True, only="Sentinel")
    """A file with the password of the Sentinels. It is read for each new connection to one."""
    min_other_sentinels: int = setting(parsers.whole_number(0, 1_000), 0, only="Sentinel")
    """The number of other Sentinels that a Sentinel must see before its answer is used."""
    read_from: str = setting(parsers.choice("primary", "replica"), "primary", only="Sentinel")
    """``replica`` makes a client that only reads, from the replicas in turn. Replicas lag behind
    the primary.
    """

    read_from_replicas: bool = setting(parsers.boolean, False, only="Cluster")
    """On a Cluster: whether commands that only read go to replicas too. Replicas lag behind the
    primary.
    """
    load_balancing: str = setting(
        parsers.choice("round_robin", "round_robin_replicas", "random", "random_replica"),
        "round_robin",
        only="Cluster",
    )
    """The nodes of a Cluster that get the commands that only read: ``round_robin`` and ``random``
    include the primary, ``round_robin_replicas`` and ``random_replica`` do not.
    """
    require_full_coverage: bool = setting(parsers.boolean, True, only="Cluster")
    """On a Cluster: whether it is an error if no node serves some of the keys."""

    trace: str = setting(parsers.choice("all", "children", "pipelines", "off"), "all")
    """The commands that have spans: ``all``; ``children``, only those below another span;
    ``pipelines``, only pipelines; ``off``, none.
    """
    trace_query_text: str = setting(parsers.choice("off", "sanitized", "keys"), "off")
    """``sanitized`` writes ``SET ? ?`` into ``db.query.text``, ``keys`` writes ``SET user:1 ?``.
    Values are never shown.
    """
    trace_exclude: frozenset[str] = setting(parsers.command_names, frozenset())
    """Commands without spans, with commas between them, such as ``PING, PUBLISH``."""
    trace_min_duration: timedelta = setting(parsers.Timespan, timedelta(0))
    """A command or pipeline that succeeds faster has no span. It is counted on the span of its
    request. 0 turns this off.
    """
    metrics: bool = setting(parsers.boolean, True)
    """Record metrics of the client's operations and its pool."""
    track_key_reads_sample_rate: float = setting(parsers.percentage, 0.0)
    """The share of reading commands that are sampled for hot keys."""
    track_key_writes_sample_rate: float = setting(parsers.percentage, 0.0)
    """The share of writing commands that are sampled for hot keys."""
