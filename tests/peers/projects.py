"""The projects whose suites run with our client, and what each of them needs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from . import redis_py
from .outcomes import Differences
from .servers import SuiteSentinel, SuiteServer


@dataclass(frozen=True)
class Project:
    """How to run the tests of a project that concern Redis.

    :param tests: pytest's command line: files, and options in place of the project's ``addopts``.
        Each further line is a process of its own.
    :param requirements: packages to install with the project. They have no versions, since the
        checkout may be of any version.
    :param extras: the extras of the project to install.
    :param servers: the servers that the tests expect.
    :param has_pools: whether the tests make the pools of their clients themselves. Then these are
        always ours, too.
    :param must_use: what of ours the tests must have used, or else they prove nothing.
    :param differences: the tests that pass with plain redis-py only, by the reason.
    :param environment: variables that lead the tests to the servers.
    """

    tests: str
    requirements: Sequence[str] = ()
    extras: str = ""
    servers: Sequence[SuiteServer] = (SuiteServer(),)
    environment: Mapping[str, str] = field(default_factory=dict)
    has_pools: bool = False
    must_use: Sequence[str] = ("clients",)
    differences: Differences = field(default_factory=dict)


_PASSWORD = ("--requirepass", "sekret")
_DJANGO_SETTINGS = (
    *("not sqlite_", "[sqlite_gzip]", "[sqlite_herd]", "[sqlite_json]", "[sqlite_lz4]"),
    *("[sqlite_msgpack]", "[sqlite_sentinel]", "[sqlite_sentinel_opts]", "[sqlite_sharding]"),
    *("[sqlite_usock]", "[sqlite_zlib]", "[sqlite_zstd]"),
)

PROJECTS: Mapping[str, Project] = {
    "rq": Project("tests", ("psutil",), environment={"RUN_SLOW_TESTS_TOO": "1"}),
    "dogpile.cache": Project(
        "-p no:logging -p no:warnings"
        " tests/cache/test_redis_backend.py tests/cache/test_redis_sentinel_backend.py",
        ("mako",),
        servers=(SuiteServer(), SuiteSentinel(services=("pifpaf",))),
        environment={"DOGPILE_REDIS_PORT": "6379", "DOGPILE_REDIS_SENTINEL_PORT": "26379"},
    ),
    "limits": Project(
        # Its asyncio storages have clients of their own.
        "-p no_docker -m 'redis or redis_sentinel' -k 'not Async' --ignore=tests/aio"
        " --ignore=tests/benchmarks -o asyncio_default_fixture_loop_scope=function tests",
        (
            *("flaky", "hiro", "pytest<10", "pytest-asyncio", "pytest-benchmark"),
            *("pytest-lazy-fixtures", "pytest-mock", "PyYAML", "setuptools"),
        ),
        extras="[valkey,memcached,mongodb]",  # that of Redis asks for an older redis-py
        servers=(
            SuiteServer(7379),
            SuiteServer(7389, _PASSWORD),
            SuiteServer(7380, ("--unixsocket", "/tmp/limits.redis.sock")),
            SuiteServer(7381, (*_PASSWORD, "--unixsocket", "/tmp/limits.redis-auth.sock")),
            SuiteServer(6380),
            SuiteSentinel(watched=6380),
        ),
    ),
    "pyramid_session_redis": Project("tests", ("webtest",)),
    "django-redis": Project(
        # The settings of the first test hold for a whole process.
        "\n".join(f"-o pythonpath=tests -k '{tests}' tests" for tests in _DJANGO_SETTINGS),
        ("lz4", "msgpack", "pyzstd", "pytest-mock", "pytest-xdist"),
        extras="[hiredis]",
        servers=(
            SuiteServer(options=("--unixsocket", "/tmp/redis.sock")),
            SuiteSentinel(services=("default_service", "127.0.0.1")),
        ),
    ),
    "redis-py": Project(
        redis_py.TESTS,
        ("numpy", "packaging", "PyJWT", "pytest-asyncio", "pytest-timeout"),
        extras="[hiredis]",
        has_pools=True,
        must_use=("clients", "connections", "direct requests", "spans"),
        differences=redis_py.DIFFERENCES,
    ),
    "walrus": Project("walrus/tests/__init__.py"),  # which has all tests
    "huey": Project("huey/tests"),
    "dramatiq": Project(
        # None of the files left out uses Redis.
        "--ignore=tests/benchmarks --ignore=tests/middleware --ignore=tests/test_rabbitmq.py"
        " --ignore=tests/test_watch.py tests",
        ("pytest-benchmark", "pytest-cov"),
        extras="[redis,memcached,rabbitmq,watch]",
    ),
    "kombu": Project(
        # The unit tests replace functions of the transport for the whole process.
        "-o python_classes=test_* t/unit/transport/test_redis.py\n"
        "-o python_classes=test_*"
        " t/integration/test_redis.py t/integration/test_redis_brpop_qos.py",
        ("hypothesis", "pytest-freezer", "Pyro4"),
        extras="[redis]",
    ),
}
