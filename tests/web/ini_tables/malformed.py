"""Settings of a client, of a queue or of the package that are refused: a text, and the error."""

from __future__ import annotations

_CLIENT = "foo.url = redis://localhost"
_TLS = "foo.url = rediss://localhost"
_QUEUE = f"{_CLIENT}\njobs.queue = foo"
_SPAN = "write a number and a unit, such as"

ERRORS = [
    # Comments and continuation lines
    (
        f"{_CLIENT}  # the primary",
        "foo.url: has a comment after the value; comments must stand on a line of their own",
    ),
    (
        f"{_CLIENT} ; the primary",
        "foo.url: has a comment after the value; comments must stand on a line of their own",
    ),
    (
        f"{_CLIENT}\n  foo.socket_timeout = 3 seconds",
        "foo.url: has more than one line; an indented line continues the value above it, so",
    ),
    (
        f"{_CLIENT}\nfoo.retries = 2  # twice",
        "foo.retries: has a comment after the value; comments must stand on a line of their own",
    ),
    (
        f"{_CLIENT}\nfoo.username = web ; the user",
        "foo.username: has a comment after the value; comments must stand on a line of their own",
    ),
    (
        f"{_CLIENT}\nfoo.password_file = /run/secret # mounted",
        "foo.password_file: has a comment after the value; comments must stand on a line of their",
    ),
    (
        f"{_CLIENT}\nbaseplate_redis.clients = foo  # only this one",
        "baseplate_redis.clients: has a comment after the value; comments must stand on a line of",
    ),
    (
        f"{_QUEUE}\njobs.durable = true\njobs.group = a # b",
        "jobs.group: has a comment after the value; comments must stand on a line of their own",
    ),
    # Names
    ("class.url = redis://h", "class.url: class is a keyword of Python, so request.class can't"),
    ("tm.url = redis://h", "tm.url: request.tm is pyramid_tm's transaction manager; choose"),
    ("span.url = redis://h", "span.url: request.span is the request's OpenTelemetry span; choose"),
    ("session.url = redis://h", "session.url: request.session is Pyramid's own; choose another"),
    (f"{_CLIENT}\nbaseplate_redis.clients = a-b", "baseplate_redis.clients: 'a-b' is not a Python"),
    ("baseplate_redis.clients = foo", "foo.url: is missing; write a URL such as redis://localhost"),
    (f"{_CLIENT}\nsession.queue = foo", "session.queue: request.session is Pyramid's own; choose"),
    (f"{_CLIENT}\nfoo.queue = foo", "foo.queue: unknown setting; the reference of settings"),
    (f"{_CLIENT}\nbaseplate_redis.queues = jobs", "jobs.queue: is missing; write the name of the"),
    # The URL
    ("foo.url = redis://localhost:port", "foo.url: has a malformed host or port (a port is a"),
    ("foo.url = redis://localhost:0", "foo.url: has port 0; a port is a number from 1 to 65535"),
    ("foo.url = redis://localhost:99999", "foo.url: has a malformed host or port (a port is a"),
    ("foo.url = redis://local_host!/0", "foo.url: has a malformed host name; percent-encode"),
    ("foo.url = redis://localhost/abc", "foo.url: has a path that is not a database number; write"),
    ("foo.url = redis://localhost/1/2", "foo.url: has a path that is not a database number; write"),
    ("foo.url = redis://:pa/ss@localhost", 'foo.url: contains an "@" after the host name; '),
    ("foo.url = redis://:pa?ss@localhost", 'foo.url: contains an "@" after the host name; '),
    ("foo.url = redis://:pa#ss@localhost", 'foo.url: contains a "#"; percent-encode'),
    ("foo.url = redis://:pa ss@localhost", "foo.url: contains white space or a control character;"),
    ("foo.url = redis://h?sockettimeout=1", "foo.url: has an unknown query argument; did you mean"),
    ("foo.url = redis://h?retries=3", "foo.url: has an unknown query argument"),
    ("foo.url = redis://h?db", "foo.url: has a malformed query; percent-encode"),
    ("foo.url = redis://h?db=1&db=2", "foo.url: has a query argument twice"),
    ("foo.url = redis://h/1?db=2", "foo.url: has one database in its path and another one in its"),
    ("foo.url = redis://h?socket_timeout=1s", "foo.url: its query argument socket_timeout has a"),
    ("foo.url = unix://run/redis.sock", "foo.url: needs an absolute path with three slashes: unix"),
    ("foo.url = embedded://localhost", "foo.url: has a host name or a password, but an embedded"),
    ("foo.url = embedded:///", "foo.url: names the root directory; write embedded:///path/to"),
    ("foo.url = redis+sentinel://h", "foo.url: has no service name; write it like redis+sentinel:"),
    ("foo.url = redis+sentinel://a,a/m", "foo.url: names a host twice"),
    ("foo.url = redis+cluster://a,,b", "foo.url: has a comma without a host name before or after"),
    ("foo.url = redis+cluster://a/1", "foo.url: names a database other than 0, but a Cluster has"),
    (f"{_CLIENT}\nfoo.url_env = R", "foo.url_env: conflicts with foo.url; write the URL in one"),
    (
        "foo.url_file = /no/such/file",
        "foo.url_file: cannot read the file: No such file or",
    ),
    ("foo.url_file = redis://localhost", "foo.url_file: is a URL; write the path of a file that"),
    # Unknown keys
    (f"{_CLIENT}\nfoo.sokcet_timeout = 1 s", "foo.sokcet_timeout: unknown setting; did you mean"),
    (
        f"{_CLIENT}\nfoo.max_connection = 5",
        "foo.max_connection: unknown setting; did you mean foo.",
    ),
    (f"{_CLIENT}\nfoo.nonsense = 5", "foo.nonsense: unknown setting; the reference of settings"),
    (
        f"{_CLIENT}\nfoo.host = h",
        "foo.host: unknown setting; write it in foo.url (if foo.*",
    ),
    (f"{_CLIENT}\nfoo.db = 1", "foo.db: unknown setting; write it in foo.url (if foo.*"),
    (
        f"{_CLIENT}\nfoo.ssl = true",
        "foo.ssl: unknown setting; write rediss:// in foo.url (if",
    ),
    ("baseplate_redis.client = foo", "baseplate_redis.client: unknown setting; did you mean"),
    ("baseplate_redis.url = redis://h", "baseplate_redis.url: unknown setting; the settings are"),
    (f"{_QUEUE}\njobs.leese = 1 s", "jobs.leese: unknown setting; did you mean jobs.lease? (if"),
    (f"{_QUEUE}\njobs.nonsense = 1", "jobs.nonsense: unknown setting; the settings are queue,"),
    # Values
    (f"{_CLIENT}\nfoo.socket_timeout = 3", f"foo.socket_timeout: '3' has no unit; {_SPAN}"),
    (f"{_CLIENT}\nfoo.socket_timeout = -3 s", f"foo.socket_timeout: '-3 s' is negative; {_SPAN}"),
    (f"{_CLIENT}\nfoo.socket_timeout = 0 s", "foo.socket_timeout: must be longer than zero"),
    (f"{_CLIENT}\nfoo.socket_timeout = none", "foo.socket_timeout: 'none' is not a time span; "),
    (f"{_CLIENT}\nfoo.socket_timeout = 3 sec", "foo.socket_timeout: '3 sec' has an unknown unit;"),
    (f"{_CLIENT}\nfoo.pool_timeout = 400 days", "foo.pool_timeout: is longer than a year"),
    (f"{_CLIENT}\nfoo.max_connections = 0", "foo.max_connections: 0 is out of range; write a"),
    (f"{_CLIENT}\nfoo.max_connections = ten", "foo.max_connections: 'ten' is not a whole number;"),
    (f"{_CLIENT}\nfoo.max_connections =", "foo.max_connections: '' is not a whole number; write a"),
    (f"{_CLIENT}\nfoo.retries = 1.5", "foo.retries: '1.5' is not a whole number; write a whole"),
    (
        f"{_CLIENT}\nfoo.protocol = 4",
        "foo.protocol: 4 is out of range; write a whole number",
    ),
    (f"{_CLIENT}\nfoo.metrics = maybe", "foo.metrics: 'maybe' is neither true nor false; write"),
    (f"{_CLIENT}\nfoo.decode_responses = utf-8", "foo.decode_responses: 'utf-8' is neither true"),
    (f"{_CLIENT}\nfoo.trace = some", "foo.trace: 'some' is not one of all, children, pipelines"),
    (
        f"{_CLIENT}\nfoo.trace_exclude = PING; SET",
        "foo.trace_exclude: 'PING; SET' is not a",
    ),
    (
        f"{_CLIENT}\nfoo.track_key_reads_sample_rate = 0.01",
        "foo.track_key_reads_sample_rate: '0.01' has no unit; write a percentage from 0% to 100%",
    ),
    (f"{_CLIENT}\nfoo.client_name = my app", "foo.client_name: 'my app' has a character that is"),
    (f"{_CLIENT}\nfoo.password =", "foo.password: is empty"),
    (f"{_CLIENT}\nfoo.username =", "foo.username: is empty"),
    (f"{_TLS}\nfoo.ssl_cert_reqs = CERT_NONE", "foo.ssl_cert_reqs: 'CERT_NONE' is not one of none"),
    (f"{_TLS}\nfoo.ssl_min_version = TLSv1", "foo.ssl_min_version: 'TLSv1' is not one of tlsv1.2"),
    ("baseplate_redis.server_span = on", "baseplate_redis.server_span: 'on' is not one of auto,"),
    (f"{_QUEUE}\njobs.durable = maybe", "jobs.durable: 'maybe' is neither true nor false; write"),
    (f"{_QUEUE}\njobs.durable = true\njobs.lease = 30", "jobs.lease: '30' has no unit; write a"),
    # Contradictions
    ("foo.url = redis://:a@h\nfoo.password = b", "foo.password: foo.url has one as well; write it"),
    (
        f"{_CLIENT}\nfoo.password = a\nfoo.password_file = /x",
        "foo.password_file: there is a password as well; write it in one place only",
    ),
    ("foo.url = redis://h?protocol=2\nfoo.protocol = 3", "foo.protocol: foo.url has one as well;"),
    ("foo.url = embedded://\nfoo.password = a", "foo.password: an embedded server has no users"),
    (f"{_CLIENT}\nfoo.ssl_ca_certs = /ca.pem", "foo.ssl_ca_certs: needs TLS; write rediss:// in"),
    (f"{_CLIENT}\nfoo.read_from = replica", "foo.read_from: needs Sentinel; write redis+sentinel:"),
    (f"{_CLIENT}\nfoo.read_from_replicas = true", "foo.read_from_replicas: needs a Cluster; write"),
    (f"{_TLS}\nfoo.ssl_keyfile = /key.pem", "foo.ssl_keyfile: needs foo.ssl_certfile; set that as"),
    (f"{_QUEUE}\njobs.lease = 1 minute", "jobs.lease: needs a durable queue; write jobs.durable ="),
    (
        f"{_QUEUE}\njobs.durable = true\njobs.backoff = 1 s, 5 s\njobs.delay = 2 s",
        "jobs.delay: contradicts jobs.backoff, which also says how long a failed message waits;",
    ),
    # Files
    (
        f"{_CLIENT}\nfoo.password_file = /no/such",
        "foo.password_file: cannot read the file: No",
    ),
    (
        f"{_TLS}\nfoo.ssl_ca_certs = /no/such",
        "foo.ssl_ca_certs: cannot read /no/such: No such",
    ),
    (f"{_TLS}\nfoo.ssl_ca_path = /no/such", "foo.ssl_ca_path: /no/such is not a directory"),
    (f"{_TLS}\nfoo.ssl_ciphers = NONSENSE", "foo.ssl_ciphers: cannot be used for TLS (malformed)"),
]
