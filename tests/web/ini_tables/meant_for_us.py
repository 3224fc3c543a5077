"""Settings that were meant to declare a client or a queue, but declare none.

Each row is a text and the start of what is said: an error if it is marked so, else a warning. Some
rows have a client ``bar`` beside the mistake, since a message must not depend on having none. The
variables ``V``, ``R`` and ``P`` contain ``localhost:6379``, ``redis://localhost`` and
``postgresql://localhost``.
"""

from __future__ import annotations

ERRORS = [
    # The URL's value
    ('foo.url = "redis://localhost/0"', "foo.url: has quotes around it; write it without them"),
    ("foo.url = 'redis://localhost/0'", "foo.url: has quotes around it; write it without them"),
    ("foo.url = localhost:6379", "foo.url: is not a URL; write one such as redis://"),
    ("foo.url = localhost:6379/0", "foo.url: is not a URL; write one such as redis://"),
    ("foo.url = //localhost:6379/0", "foo.url: is not a URL; write one such as redis://"),
    ("foo.url = 10.0.0.7:6379", "foo.url: is not a URL; write one such as redis://"),
    ("foo.url = :secret@redis.example:6379", "foo.url: is not a URL; write one such as redis://"),
    ("foo.url = sentinel.example:26379", "foo.url: is not a URL; write one such as redis://"),
    ("foo.url = redis:6379", 'foo.url: has no "://" after the scheme; write it like redis://'),
    ("foo.url = http://localhost:6379", "foo.url: has an unknown scheme; the schemes are redis,"),
    ("foo.url = tcp://172.17.0.2:6379", "foo.url: has an unknown scheme; the schemes are redis,"),
    ("foo.url = redi://localhost", "foo.url: has an unknown scheme; did you mean redis://?"),
    ("foo.url = reids://localhost", "foo.url: has an unknown scheme; did you mean redis://?"),
    ("foo.url = Reddis://localhost", "foo.url: has an unknown scheme; did you mean redis://?"),
    ("foo.url = redisss://localhost", "foo.url: has an unknown scheme; did you mean rediss://?"),
    ("foo.url = valky://localhost", "foo.url: has an unknown scheme; did you mean valkey://?"),
    ("foo.url = embeded://", "foo.url: has an unknown scheme; did you mean embedded://?"),
    (
        "foo.url = redis+sentinal://h/mymaster",
        "foo.url: has an unknown scheme; did you mean redis+sentinel://?",
    ),
    (
        "foo.url = redis-cluster://h",
        "foo.url: has an unknown scheme; did you mean redis+cluster://?",
    ),
    ("foo.url = redis:/localhost", 'foo.url: has no "://" after the scheme; write it like redis:'),
    ("foo.url = redis//localhost", 'foo.url: has no "://" after the scheme; write it like redis:'),
    ("foo.url = $REDIS_URL", "foo.url: is a variable of the shell, which is not replaced here; "),
    ("foo.url = ${REDIS_URL}", "foo.url: is a variable of the shell, which is not replaced here; "),
    ("foo.url = ${VALKEY_URL:-x}", "foo.url: is a variable of the shell, which is not replaced"),
    ("foo.url = ${R}", "foo.url: is a variable of the shell, which is not replaced here; "),
    ("foo.url = R", "foo.url: is not a URL; write one such as redis://localhost:6379/0"),
    ("foo.url_env = V", "foo.url_env: the environment variable V: is not a URL; write one such"),
    ("foo.url_env = NOT_SET", "foo.url_env: the environment variable NOT_SET is not set; set it"),
    ("foo.url_env = $R", "foo.url_env: is not the name of an environment variable; write one"),
    # The URL's value, beside a key that only this package has
    (
        "foo.url = localhost:6379\nfoo.socket_timeout = 3 seconds",
        "foo.url: is not a URL; write one such as redis://localhost:6379/0",
    ),
    (
        "foo.url = localhost:1234\nfoo.socket_timeout = 3 seconds",
        "foo.url: is not a URL; write one such as redis://localhost:6379/0; foo.socket_timeout is",
    ),
    (
        "foo.url = http://localhost\nfoo.breaker_failures = 3",
        "foo.url: has an unknown scheme; the schemes are redis,",
    ),
    (
        "foo.url =\nfoo.leak_warning = 10 seconds",
        "foo.url: is empty; write a URL such as redis://localhost:6379/0",
    ),
    # The URL's key
    ("foo.ulr = redis://localhost", "foo.ulr: unknown setting; did you mean foo.url?"),
    ("foo.rul = redis://localhost", "foo.rul: unknown setting; did you mean foo.url?"),
    ("foo.URL = redis://localhost", "foo.URL: unknown setting; did you mean foo.url?"),
    ("foo.ur = redis://localhost", "foo.ur: unknown setting; did you mean foo.url?"),
    ("foo.ulr = localhost:6379", "foo.ulr: unknown setting; did you mean foo.url?"),
    ("foo.url_evn = R", "foo.url_evn: unknown setting; did you mean foo.url_env?"),
    ("foo.urlenv = R", "foo.urlenv: unknown setting; did you mean foo.url_env?"),
    (
        "foo.uri = redis://localhost\nfoo.retry_budget = 1 second",
        "foo.uri: unknown setting; did you mean foo.url?",
    ),
    (
        "foo.host = localhost\nfoo.port = 6379\nfoo.socket_timeout = 3 seconds",
        "foo.host: declares no Redis client; write the host and the port in foo.url, such as",
    ),
    # The prefix
    (
        "bar.url = redis://h\nba.socket_timeout = 3 seconds",
        "ba.socket_timeout: there is no Redis client ba; did you mean bar.socket_timeout?",
    ),
    (
        "bar.url = redis://h\nbra.trace_min_duration = 1",
        "bra.trace_min_duration: there is no Redis client bra; did you mean bar.trace_min_duration",
    ),
    (
        "bar.url = redis://h\nbra.leak_warning = 1 second",
        "bra.leak_warning: there is no Redis client bra; did you mean bar.leak_warning?",
    ),
    (
        "baseplate_redis.foo.url = redis://h",
        "baseplate_redis.foo.url: the settings of a client have no baseplate_redis. before them; ",
    ),
    (
        "pyramid_baseplate_redis.health_details = true",
        "pyramid_baseplate_redis.health_details: the settings of this package start with "
        "baseplate_redis.; write baseplate_redis.health_details",
    ),
    ("baseplate-redis.clients = foo", "baseplate-redis.clients: the settings of this package"),
    ("baseplate_reids.clients = foo", "baseplate_reids.clients: the settings of this package"),
    ("baseplateredis.clients = foo", "baseplateredis.clients: the settings of this package"),
    # Queues
    (
        "bar.url = redis://h\njobs.queue = foo\njobs.lease = 1 minute",
        "jobs.queue: does not name a Redis client; configured: bar (if jobs.* belongs to",
    ),
    (
        "bar.url = redis://h\njobs.queue = foo\njobs.durable = true",
        "message queue jobs: there is no Redis client 'foo'; configured: bar",
    ),
]

WARNINGS = [
    ("foo.url =", "foo.url: is empty; write a URL such as redis://localhost:6379/0"),
    ("foo.url = localhost:1234\nfoo.socket_timeout = 3", "foo.url: is not a URL; write one such"),
    ("foo.host = localhost\nfoo.port = 6379", "foo.host: declares no Redis client; write the host"),
    ("foo.port = 26379", "foo.port: declares no Redis client; write the host and the port in foo"),
    ("redis.host = localhost", "redis.host: declares no Redis client; write the host and the port"),
    ("redis.url = redis.example", "redis.url: is not a URL; write one such as redis://localhost:"),
    ("my_valkey.url = ${URL}", "my_valkey.url: is a variable of the shell, which is not replaced"),
    ("foo.uri = redis://localhost", "foo.uri: unknown setting; did you mean foo.url?"),
    ("foo.urls = redis://localhost", "foo.urls: unknown setting; did you mean foo.url?"),
    (
        "my-cache.url = redis://localhost",
        "my-cache.url: is a Redis URL, but my-cache is not a Python identifier and declares no "
        "client; write my_cache.url",
    ),
    ("1st.url = redis://h", "1st.url: is a Redis URL, but 1st is not a Python identifier and"),
    (
        "redis.cache.url = redis://localhost",
        "redis.cache.url: is a Redis URL, but redis.cache is not a Python identifier and declares "
        "no client; write cache.url",
    ),
    (
        "my.cache.url = redis://localhost\nmy.cache.leak_warning = 1 second",
        "my.cache.url: is a Redis URL, but my.cache is not a Python identifier and declares no",
    ),
    ("Foo.url = redis://h", "Foo.url: declares the Redis client request.Foo; write foo.url if you"),
    ("_foo.url = redis://h", "_foo.url: declares the Redis client request._foo; write foo.url if"),
    (
        "bar.url = redis://h\nba.max_connections = 10",
        "ba.max_connections: there is no Redis client ba; did you mean bar.max_connections?",
    ),
    (
        "foo.breaker_failures = 3",
        "foo.breaker_failures: a Redis client has this setting, but foo.url is missing; write a",
    ),
    (
        "foo.socket_timeout = 3 seconds",
        "foo.socket_timeout: a Redis client has this setting, but foo.url is missing; write a URL",
    ),
    (
        "bar.url = redis://h\njobs.queue = foo",
        "jobs.queue: does not name a Redis client; configured: bar (if jobs.* belongs to",
    ),
    ("foo.url = http://localhost", "no Redis client is configured: no setting such as foo.url"),
    ("foo.url = ${SECRET}", "no Redis client is configured: no setting such as foo.url has a"),
    ("", "no Redis client is configured: no setting such as foo.url has a Redis URL, and"),
]
