"""redis-py's own tests: the files that run with our client, and what differs in them."""

from __future__ import annotations

from .outcomes import Differences

# Those of a server without modules and of clients with threads. A Cluster is not started.
_FILES = (
    *("client", "command_parser", "commands", "connection_pool", "encoding", "function", "hash"),
    *("himport", "himport_integration", "keyspace_notifications", "legacy_responses_arg", "lock"),
    *("monitor", "multiprocessing", "pipeline", "pubsub", "retry", "scripting", "vsets"),
)
TESTS = "-p connection_modes -m 'not onlycluster' " + " ".join(
    f"tests/test_{name}.py" for name in _FILES
)

_POOLS = "tests.test_connection_pool.TestConnectionPool"
_BLOCKING_POOLS = "tests.test_connection_pool.TestBlockingConnectionPool"
_URLS = "tests.test_connection_pool.TestConnectionPoolURLParsing"
_BLOCKING_URLS = "tests.test_connection_pool.TestBlockingConnectionPoolURLParsing"
_UNIX_URLS = "tests.test_connection_pool.TestConnectionPoolUnixSocketURLParsing"
_TLS_URLS = "tests.test_connection_pool.TestSSLConnectionURLParsing"
_CONNECTIONS = "tests.test_connection_pool.TestConnection"
_HEALTH = "tests.test_connection_pool.TestHealthCheck"
_EVENTS = "tests.test_connection_pool.TestConnectionPoolReleasedEventEmission"
_PROCESSES = "tests.test_multiprocessing.TestMultiprocessing"

DIFFERENCES: Differences = {
    "The server shows this package in lib-name.": (
        "tests.test_commands.TestRedisCommands::test_client_setinfo",
    ),
    "A URL is checked: no white space, no unknown arguments, no second database.": (
        f"{_URLS}::test_db_in_querystring",
        f"{_URLS}::test_extra_querystring_options",
        f"{_URLS}::test_extra_typed_querystring_options",
        f"{_URLS}::test_querystring_value_percent_decoded_once",
        f"{_URLS}::test_quoted_hostname",
        f"{_URLS}::test_quoted_password",
        f"{_URLS}::test_quoted_username",
        f"{_BLOCKING_URLS}::test_extra_typed_querystring_options",
        f"{_UNIX_URLS}::test_extra_querystring_options",
        f"{_UNIX_URLS}::test_quoted_password",
        f"{_UNIX_URLS}::test_quoted_username",
        f"{_TLS_URLS}::test_ssl_flags_config_parsing",
    ),
    "Client-side caching is refused.": (f"{_BLOCKING_POOLS}::test_initialise_pool_with_cache",),
    "Maintenance notifications are off unless the settings turn them on.": (
        f"{_URLS}::test_default_protocol_enables_maint_notifications",
        f"{_URLS}::test_explicit_resp3_enables_maint_notifications",
    ),
    "The repr of a pool that was made from settings shows its name and URL.": (
        f"{_POOLS}::test_repr_contains_db_info_tcp",
        f"{_POOLS}::test_repr_contains_db_info_unix",
        f"{_BLOCKING_POOLS}::test_repr_contains_db_info_tcp",
        f"{_CONNECTIONS}::test_connect_from_url_tcp",
        f"{_CONNECTIONS}::test_connect_from_url_unix",
    ),
    "The pool is made with arguments that ours refuses at once.": (
        f"{_BLOCKING_POOLS}::test_repr_contains_db_info_unix",
        f"{_BLOCKING_POOLS}::test_repr_redacts_sensitive_information",
    ),
    "The test drops a connection; ours is closed then, and its place in the pool is free.": (
        f"{_POOLS}::test_max_connections",
        f"{_BLOCKING_POOLS}::test_connection_pool_blocks_until_timeout",
    ),
    "The test reads private lists of ConnectionPool, which a blocking pool doesn't have.": (
        f"{_POOLS}::test_release_not_owned_connection",
        f"{_CONNECTIONS}::test_busy_loading_from_pipeline",
        f"{_CONNECTIONS}::test_busy_loading_from_pipeline_immediate_command",
        f"{_CONNECTIONS}::test_on_connect_error",
        f"{_PROCESSES}::test_release_parent_connection_from_pool_in_child_process",
    ),
    "As redis-py's blocking pool, ours sends no event when a connection is released.": (
        f"{_EVENTS}::test_connection_released_event_emitted_on_release",
    ),
    "Releasing a connection to a pool that it isn't from is an error.": (
        f"{_EVENTS}::test_connection_released_event_not_emitted_for_foreign_connection",
    ),
    "The test patches a connection, and ours is another object after its release.": (
        f"{_HEALTH}::test_health_check_in_pipeline",
        f"{_HEALTH}::test_health_check_in_transaction",
        f"{_HEALTH}::test_health_check_in_watched_pipeline",
    ),
    "The test patches methods of redis-py's class of connections, which ours overrides.": (
        f"{_UNIX_URLS}::test_default_config_client_executes_commands_without_maint_notifications",
    ),
    "The pool refuses maintenance notifications on a Unix socket, not the client.": (
        f"{_UNIX_URLS}::test_client_rejects_enabled_maint_notifications_config",
    ),
    "The pool is a mock, which seems to have a client-side cache.": (
        "tests.test_client.TestRedisClientMetricsRecording",
    ),
}
"""Tests that look into redis-py, or at what this package does differently on purpose."""
