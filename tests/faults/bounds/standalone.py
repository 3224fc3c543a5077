"""The faults of one server, and of the network in front of it."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import redis

from ...support.servers import REDIS_SERVER, Server, free_port, running_server
from ...support.unreachable import unreachable_port
from ..helpers import tls_server
from . import formulae
from .faults import Fault
from .limits import Limits
from .operations import CHANNEL, OPERATIONS, PUB_SUB, App, Operation
from .slow_proxy import SlowProxy

_LARGE = b"x" * 6_000_000  # more than the buffers of the sockets hold
_BYTE_PAUSE = 0.05  # seconds, so that a reply takes longer than socket_timeout
_PUSH = b">2\r\n$10\r\ninvalidate\r\n*1\r\n$6\r\nbounds\r\n"
_HEALTH_CHECKS = {"health_check_interval": "1 millisecond"}
_HANGING_HOST = "hangs.invalid"

_OWN_CONNECTION = "it opens a connection of its own"
_OWN_PROCESS = "predis is a process of its own, with a pool and a breaker of its own"
_SENDS_LITTLE = "it sends nothing large"
_NO_TLS = "it needs redis-server with TLS"
_PROBES = {"health probe": _OWN_CONNECTION, "predis check": _OWN_CONNECTION}
_SMALL = {name: _SENDS_LITTLE for name, operation in OPERATIONS.items() if not operation.sends}


class Standalone:
    """The servers that the faults need; a context manager.

    :param directory: a new one.
    """

    def __init__(self, directory: Path, limits: Limits) -> None:
        self.directory = directory
        self.limits = limits
        self._stack = ExitStack()
        self._server: Server | None = None
        self._tls: tuple[Server, str, str] | None = None
        self._loading: int | None = None

    def __enter__(self) -> Standalone:
        return self

    def __exit__(self, *args: Any) -> None:
        self._stack.close()

    def _own(self, name: str) -> Path:
        made = self.directory / name
        made.mkdir()
        return made

    @property
    def server(self) -> Server:
        if self._server is None:
            entered = running_server("valkey", self._own("server"))
            self._server = self._stack.enter_context(entered)
        return self._server

    @property
    def tls(self) -> tuple[Server, str, str]:
        if self._tls is None:
            self._tls = self._stack.enter_context(tls_server(self._own("tls")))
        return self._tls

    @property
    def loading_port(self) -> int:
        """The port of a server that is loading its data, for half a minute."""
        if self._loading is None:
            directory = self._own("loading")
            with (
                running_server("valkey", directory) as full,
                redis.Redis(port=full.port) as admin,
            ):
                admin.mset({f"key:{number}": os.urandom(200) for number in range(6_000)})
                admin.save()
            # While it loads, the server answers after each kilobyte.
            slow = running_server(
                "valkey", directory, "--key-load-delay", "5000",
                "--loading-process-events-interval-bytes", "1024",
            )  # fmt: skip
            self._loading = self._stack.enter_context(slow).port
        return self._loading

    def app(self, port: int, **settings: str) -> App:
        return App(f"redis://127.0.0.1:{port}/0", self.limits, **settings)

    @contextmanager
    def refused(self, operation: Operation) -> Iterator[App]:
        with self.app(free_port()) as app:
            yield app

    @contextmanager
    def dropped(self, operation: Operation) -> Iterator[App]:
        with unreachable_port() as port, self.app(port) as app:
            yield app

    @contextmanager
    def silent(self, operation: Operation) -> Iterator[App]:
        with (
            socket.create_server(("127.0.0.1", 0)) as listener,
            self.app(listener.getsockname()[1]) as app,
        ):
            yield app

    @contextmanager
    def slow_login(self, operation: Operation) -> Iterator[App]:
        with self.proxied() as (proxy, app):
            proxy.byte_pause = _BYTE_PAUSE
            yield app

    @contextmanager
    def slow_reply(self, operation: Operation) -> Iterator[App]:
        with self.proxied() as (proxy, app):
            operation.connect(app)
            proxy.byte_pause = _BYTE_PAUSE
            self._publish(operation)
            yield app

    @contextmanager
    def slow_push(self, operation: Operation) -> Iterator[App]:
        with self.proxied() as (proxy, app):
            operation.connect(app)
            proxy.push, proxy.byte_pause = _PUSH, _BYTE_PAUSE
            self._publish(operation)
            yield app

    @contextmanager
    def late_replies(self, settings: dict[str, str], operation: Operation) -> Iterator[App]:
        with self.proxied(**settings) as (proxy, app):
            operation.connect(app)
            proxy.reply_pause = self.limits.reply * 0.7
            self._publish(operation)
            yield app

    @contextmanager
    def half_open(self, operation: Operation) -> Iterator[App]:
        with self.proxied() as (proxy, app):
            operation.connect(app)
            proxy.freeze(True)
            yield app

    @contextmanager
    def slow_reader(self, operation: Operation) -> Iterator[App]:
        with self.proxied() as (proxy, app):
            operation.connect(app)
            app.payload = _LARGE
            proxy.freeze(True)
            yield app

    @contextmanager
    def reader_of_pieces(self, operation: Operation) -> Iterator[App]:
        with self.proxied() as (proxy, app):
            operation.connect(app)
            app.payload = _LARGE
            proxy.read_pause = 0.02
            yield app

    @contextmanager
    def tls_handshake(self, operation: Operation) -> Iterator[App]:
        with self.proxied_with_tls() as (proxy, app):
            proxy.freeze(True)
            yield app

    @contextmanager
    def tls_slow_handshake(self, operation: Operation) -> Iterator[App]:
        with self.proxied_with_tls() as (proxy, app):
            proxy.byte_pause = _BYTE_PAUSE
            yield app

    @contextmanager
    def tls_data(self, operation: Operation) -> Iterator[App]:
        with self.proxied_with_tls() as (proxy, app):
            operation.connect(app)
            proxy.freeze(True)
            yield app

    @contextmanager
    def tls_slow_reply(self, operation: Operation) -> Iterator[App]:
        with self.proxied_with_tls() as (proxy, app):
            operation.connect(app)
            proxy.byte_pause = _BYTE_PAUSE
            yield app

    @contextmanager
    def tls_reader_of_pieces(self, operation: Operation) -> Iterator[App]:
        with self.proxied_with_tls() as (proxy, app):
            operation.connect(app)
            app.payload = _LARGE
            proxy.read_pause = 0.02
            yield app

    @contextmanager
    def hanging_name(self, operation: Operation) -> Iterator[App]:
        url = f"redis://{_HANGING_HOST}:6379/0"
        with hanging_resolver(self.limits.look_up), App(url, self.limits) as app:
            yield app

    @contextmanager
    def empty_pool(self, operation: Operation) -> Iterator[App]:
        with self.app(self.server.port, max_connections="2") as app:
            pool = app.foo.connection_pool
            held = [pool.get_connection() for _ in range(2)]
            yield app
            for connection in held:
                pool.release(connection)

    @contextmanager
    def open_breaker(self, operation: Operation) -> Iterator[App]:
        settings = {"breaker_failures": "1", "breaker_reset": "1 minute"}
        with (
            socket.create_server(("127.0.0.1", 0)) as silent,
            self.app(silent.getsockname()[1], **settings) as app,
        ):
            with suppress(redis.RedisError):
                app.foo.ping()
            yield app

    @contextmanager
    def loading(self, operation: Operation) -> Iterator[App]:
        with self.app(self.loading_port) as app:
            yield app

    @contextmanager
    def proxied(self, **settings: str) -> Iterator[tuple[SlowProxy, App]]:
        with SlowProxy(self.server.port) as proxy, self.app(proxy.port, **settings) as app:
            yield proxy, app

    @contextmanager
    def proxied_with_tls(self) -> Iterator[tuple[SlowProxy, App]]:
        _, url, authority = self.tls
        with SlowProxy(int(url.rpartition(":")[2])) as proxy:
            url = f"rediss://127.0.0.1:{proxy.port}/0"
            with App(url, self.limits, ssl_ca_certs=authority) as app:
                yield proxy, app

    def _publish(self, operation: Operation) -> None:
        if operation is PUB_SUB:
            with redis.Redis(port=self.server.port) as admin:
                admin.publish(CHANNEL, "text")

    def faults(self) -> list[Fault]:
        """Return the rows of the table."""
        no_tls = {} if REDIS_SERVER else dict.fromkeys(OPERATIONS, _NO_TLS)
        own_process = {"predis check": _OWN_PROCESS}
        one_by_one = partial(Fault, together=False)
        return [
            Fault("connection refused", self.refused, formulae.AT_ONCE),
            Fault("SYN dropped", self.dropped, formulae.CONNECT),
            Fault("accepted and silent", self.silent, formulae.LOGIN),
            Fault("login, a byte at a time", self.slow_login, formulae.LOGIN),
            Fault("reply, a byte at a time", self.slow_reply, formulae.REPLY),
            Fault("push, a byte at a time", self.slow_push, formulae.REPLY),
            Fault("each reply just in time", partial(self.late_replies, {}), formulae.REPLIES),
            Fault(
                "the same with health checks", partial(self.late_replies, _HEALTH_CHECKS),
                formulae.HEALTH_CHECKS,
            ),
            Fault("half-open", self.half_open, formulae.REPLY),
            one_by_one(
                "TLS stalls in the handshake", self.tls_handshake, formulae.HANDSHAKE, no_tls
            ),
            one_by_one(
                "TLS handshake, a byte at a time", self.tls_slow_handshake, formulae.HANDSHAKE,
                no_tls,
            ),
            Fault("TLS stalls in data", self.tls_data, formulae.REPLY, no_tls),
            Fault("TLS reply, a byte at a time", self.tls_slow_reply, formulae.REPLY, no_tls),
            one_by_one("reader reads nothing", self.slow_reader, formulae.SENDING, _SMALL),
            one_by_one("reader reads slowly", self.reader_of_pieces, formulae.PIECES, _SMALL),
            one_by_one(
                "reader reads slowly, TLS", self.tls_reader_of_pieces, formulae.PIECES,
                {**_SMALL, **no_tls},
            ),
            Fault("DNS hangs", self.hanging_name, formulae.NAME),
            Fault(
                "pool empty", self.empty_pool, formulae.POOL,
                {"health probe": _OWN_CONNECTION, **own_process},
            ),
            Fault("breaker open", self.open_breaker, formulae.BREAKER, own_process),
            Fault("loading", self.loading, formulae.REPLY),
        ]  # fmt: skip


_resolver = threading.Lock()
_resolving = 0
_getaddrinfo = socket.getaddrinfo


@contextmanager
def hanging_resolver(seconds: float) -> Iterator[None]:
    """No name server answers for one host name; the resolver tries for so many seconds.

    Other names are looked up as usual. Blocks may be nested, and in several threads.
    """

    def look_up(host: Any, *args: Any, **kwargs: Any) -> Any:
        if host == _HANGING_HOST:
            time.sleep(seconds)
            raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
        return _getaddrinfo(host, *args, **kwargs)

    global _resolving
    with _resolver:
        _resolving += 1
        socket.getaddrinfo = look_up
    try:
        yield
    finally:
        with _resolver:
            _resolving -= 1
            if not _resolving:
                socket.getaddrinfo = _getaddrinfo
