"""The hunt for wrong replies: more workers than connections, interrupted, cut off, killed, forked.

    python -m tests.faults.hunt --seconds 600 [--gevent] [--seed N]

Every command's reply says which question it answers, so a reply that went to somebody else is
seen. At the end each slot of the pools has to be free, each connection that the server sees has to
be one of theirs, and every worker has to have come home. What it reports is a failure unless it is
an error of the network, an interruption of its own, or an error that the package documents.

``--stock`` hunts in redis-py's own pool and client, to see that it finds what it is for: within
seconds they give wrong replies and lose slots, and workers are stuck. ``--without`` leaves some of
the faults out, to see which of them it takes.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import faulthandler
import gc
import json
import logging
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import redis
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from redis.exceptions import LockError, NoScriptError
from rich.console import Console
from rich.table import Table

from pyramid_baseplate_redis import pool_from_config
from pyramid_baseplate_redis.exceptions import PoolReleaseError, TimedOutError
from pyramid_baseplate_redis.factories import RedisContextFactory

from ..support.servers import running_server
from .proxy import Proxy

THREADS, GREENLETS = 50, 500
MOST_SECONDS_OF_A_STEP = 30  # far more than all its timeouts together
FAULTS = ("interrupts", "signals", "weather", "forks", "rogues")
SHARED = "shared"  # a key that transactions of many workers watch

# What may happen to anybody whose network, server or neighbour fails. ForkedConnectionError and
# PoolReleaseError are not here: they are for those who do wrong.
EXPECTED = (redis.ConnectionError, redis.TimeoutError, redis.WatchError, LockError, TimedOutError,
            NoScriptError)  # fmt: skip

_set_async_exc = ctypes.pythonapi.PyThreadState_SetAsyncExc


class Interrupted(BaseException):
    """What is raised at a random place of a worker."""


# The weather: a server and a proxy in a process of their own, and what happens to them


class Weather:
    """A server, a lossy way to it, and a thread that makes them fail until it is told to stop."""

    def __init__(self, seed: int, fails: bool) -> None:
        self.random = random.Random(seed)
        self.counts: Counter[str] = Counter()
        self._fails = fails
        self._stop = threading.Event()

    def main(self) -> None:
        """Tell the ports, make weather until a line says ``calm``, and end with the last line."""
        with (
            tempfile.TemporaryDirectory(prefix="hunt") as directory,
            running_server("valkey", Path(directory)) as server,
            Proxy(server.port) as proxy,
        ):
            self.server, self.proxy = server, proxy
            self.admin = redis.Redis(port=server.port, socket_timeout=1, client_name="admin")
            self._say({"port": server.port, "proxy_port": proxy.port})
            thread = threading.Thread(target=self._run)
            thread.start()
            sys.stdin.readline()
            self._stop.set()
            thread.join()
            self.counts["replies lost"] = proxy.lost
            self._say(dict(self.counts))
            sys.stdin.readline()

    def _say(self, what: object) -> None:
        print(json.dumps(what), flush=True)  # noqa: T201

    def _run(self) -> None:
        events: dict[Callable[[], None], int] = {
            self.kill_some: 40, self.kill_all: 2, self.unblock: 10, self.lose_replies: 25,
            self.cut_replies: 15, self.reset: 3, self.refuse: 2, self.freeze: 2, self.pause: 2,
            self.restart: 4,
        }  # fmt: skip
        while not self._stop.wait(self.random.uniform(0.02, 0.15)):
            if self._fails:
                (event,) = self.random.choices([*events], [*events.values()])
                self.counts[event.__name__.replace("_", " ")] += 1
                with contextlib.suppress(redis.RedisError):
                    event()

    def _while(self, seconds: float) -> None:
        self._stop.wait(seconds)

    def _clients(self) -> list[dict[str, str]]:
        listed: Any = self.admin.client_list()
        return [client for client in listed if client["name"].startswith("hunt")]

    def kill_some(self) -> None:
        clients = self._clients()
        for client in self.random.sample(clients, min(len(clients), self.random.randint(1, 3))):
            self.admin.execute_command("CLIENT", "KILL", "ID", client["id"])

    def kill_all(self) -> None:
        self.admin.execute_command("CLIENT", "KILL", "TYPE", "normal")

    def unblock(self) -> None:
        for client in self._clients():
            if "b" in client["flags"]:
                self.admin.client_unblock(int(client["id"]))

    def lose_replies(self) -> None:
        self.proxy.lose_replies(self.random.choice([0.05, 0.3]))
        self._while(0.1)
        self.proxy.lose_replies(False)

    def cut_replies(self) -> None:
        self.proxy.cut_reply_after(self.random.choice([1, 7, 40]))
        self._while(0.05)
        self.proxy.cut_reply_after(None)

    def reset(self) -> None:
        self.proxy.reset_connections()

    def refuse(self) -> None:
        self.proxy.refuse(True)
        self._while(0.1)
        self.proxy.refuse(False)

    def freeze(self) -> None:
        self.proxy.freeze(True)
        self._while(self.random.choice([0.05, 0.6]))
        self.proxy.freeze(False)

    def pause(self) -> None:
        self.admin.client_pause(self.random.choice([20, 500]))

    def restart(self) -> None:
        self.server.kill()
        self._while(self.random.uniform(0, 0.3))
        self.server.restart()


class WeatherProcess:
    """The weather, as seen from the process that lives in it."""

    def __init__(self, seed: int, fails: bool) -> None:
        command = [sys.executable, "-m", __spec__.name, "--weather", "--seed", str(seed)]
        self._process = subprocess.Popen(
            command + ([] if fails else ["--without", "weather"]),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        ports = self._read()
        self.port, self.proxy_port = ports["port"], ports["proxy_port"]

    def _read(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        said: dict[str, Any] = json.loads(self._process.stdout.readline())
        return said

    def _tell(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{line}\n")
        self._process.stdin.flush()

    def calm_down(self) -> dict[str, int]:
        """End the faults and return how many of each there were; the server is there then."""
        self._tell("calm")
        return self._read()

    def end(self) -> None:
        self._tell("end")
        self._process.wait(10)


# What is hunted in


class Ours:
    """A pool of this package; its clients are bound as a request's are."""

    refuses = True

    def __init__(self, name: str, port: int, size: int, **settings: str) -> None:
        self.name = name
        given = {
            "url": f"redis://127.0.0.1:{port}/0", "client_name": name,
            "max_connections": str(size), "pool_timeout": "1 second",
            "socket_timeout": "300 ms", "socket_connect_timeout": "300 ms", **settings,
        }  # fmt: skip
        self.pool: Any = pool_from_config({f"foo.{k}": v for k, v in given.items()}, "foo.")
        self.factory = RedisContextFactory(self.pool, "foo")
        self.tracer = trace.get_tracer("hunt")

    def client(self) -> Any:
        return self.factory.make_object_for_context("foo", self.tracer.start_span("request"))

    def give_back(self, client: Any) -> None:
        client.give_back()

    def stats(self) -> tuple[int, int]:
        figures = self.pool.stats
        return figures.in_use, figures.open


class Stock:
    """redis-py's pool and client."""

    refuses = False

    def __init__(self, name: str, port: int, size: int, **settings: str) -> None:
        self.name = name
        self.pool: Any = redis.BlockingConnectionPool(
            size, 1, port=port, client_name=name, socket_timeout=0.3,
            socket_connect_timeout=0.3, protocol=int(settings.get("protocol", 3)),
        )  # fmt: skip
        self._client = redis.Redis(connection_pool=self.pool)

    def client(self) -> Any:
        return self._client

    def give_back(self, client: Any) -> None:
        pass

    def stats(self) -> tuple[int, int]:
        opened = [made for made in self.pool._connections if made.is_connected]
        return self.pool.max_connections - self.pool.pool.qsize(), len(opened)


# Who hunts


class Worker:
    """Asks questions whose answers it knows, and survives whatever is done to it."""

    def __init__(self, hunt: Hunt, number: int) -> None:
        self.hunt = hunt
        self.number = number
        self.random = random.Random(hunt.seed * 10_000 + number)
        self.commands = 0
        self.interrupts = 0
        self.refusals = 0
        self.errors: Counter[str] = Counter()
        self.pending = False  # an interruption is on its way
        self.steps = 0
        self._questions = 0
        self._ops: list[tuple[Callable[[Any], None], int]] = [
            (self.echo, 30), (self.set_and_get, 20), (self.get_earlier, 5), (self.pipeline, 12),
            (self.transaction, 8), (self.left_open, 3), (self.script, 8), (self.blocking, 5),
            (self.subscriber, 2), (self.queue, 4), (self.own_connection, 4), (self.lock, 3),
            (self.who_am_i, 3), (self.big, 2),
        ]  # fmt: skip
        if number % 10 == 0 and "rogues" in hunt.faults:
            self._ops.append((self.rogue, 20))

    def live(self) -> None:
        """Work until the hunt ends; an interruption on the way from one try to the next is one."""
        while not self.hunt.over:
            try:
                while not self.hunt.over:
                    self._try()
            except (Interrupted, *self.hunt.crew.interruptions):
                self.interrupts += 1

    def _try(self) -> None:
        try:
            self.pending = False
            self.steps += 1
            self.step()
        except EXPECTED as error:
            self.errors[type(error).__name__] += 1
        except (Interrupted, *self.hunt.crew.interruptions):
            self.interrupts += 1
        except BaseException as error:
            self.errors[type(error).__name__] += 1
            self.hunt.unexpected.append("".join(traceback.format_exception(error)))

    def step(self) -> None:
        target = self.random.choice(self.hunt.targets)
        ops, weights = zip(*self._ops, strict=True)
        (op,) = self.random.choices(ops, weights)
        client = target.client()
        with self.hunt.crew.hurried(self.random):
            try:
                op(client)
            finally:
                target.give_back(client)
        if self.number % 5 == 1 and self.hunt.crew.spares(self):
            self.hunt.maybe_fork(self)

    def token(self) -> str:
        self._questions += 1
        return f"{os.getpid()}-{self.number}-{self._questions}"

    def check(self, got: object, *wanted: object) -> None:
        """Note a wrong reply."""
        self.commands += 1
        if got not in wanted:
            stack = "".join(traceback.format_stack(limit=3)[:-1])
            self.hunt.wrong.append(f"{got!r} instead of {' or '.join(map(repr, wanted))}\n{stack}")

    # The questions

    def echo(self, client: Any) -> None:
        token = self.token()
        self.check(client.echo(token), token.encode())

    def big(self, client: Any) -> None:
        token = self.token() * 20_000  # more than the socket's buffers take at once
        self.check(client.echo(token) == token.encode(), True)

    def set_and_get(self, client: Any) -> None:
        token = self.token()
        self.check(client.set(token, token, ex=60), True)
        # None: the server was restarted in between.
        self.check(client.get(token), token.encode(), None)

    def get_earlier(self, client: Any) -> None:
        key = f"{os.getpid()}-{self.number}-{self.random.randint(1, self._questions + 1)}"
        self.check(client.get(key), key.encode(), None)

    def pipeline(self, client: Any) -> None:
        tokens = [self.token() for _ in range(self.random.randint(1, 6))]
        pipeline = client.pipeline(transaction=self.random.random() < 0.5)
        for token in tokens:
            pipeline.echo(token).set(token, token, ex=60).get(token)
        wanted = [reply for token in tokens for reply in (token.encode(), True, token.encode())]
        self.check(pipeline.execute(), wanted)

    def transaction(self, client: Any) -> None:
        token = self.token()
        key = self.random.choice([SHARED, f"count-{token}"])

        def queue(pipeline: Any) -> None:
            self.check(pipeline.echo(token), token.encode())
            before = pipeline.get(key)
            # Not only None: redis-py takes a lost reply of EXEC for a key that has changed, and
            # transaction() does it all again.
            self.check(before is None or before.isdigit(), True)
            pipeline.multi()
            pipeline.echo(token).incr(key).expire(key, 60)

        results = client.transaction(queue, key)
        self.check([results[0], results[2]], [token.encode(), True])

    def left_open(self, client: Any) -> None:
        """A pipeline that still watches when the request ends, or when it is dropped."""
        token = self.token()
        pipeline = client.pipeline()
        pipeline.watch(SHARED)
        self.check(pipeline.echo(token), token.encode())
        if self.random.random() < 0.5:
            pipeline.itself = pipeline  # only the garbage collector finds it

    def script(self, client: Any) -> None:
        token = self.token()
        if self.random.random() < 0.5:
            self.check(client.eval("return ARGV[1]", 0, token), token.encode())
        else:
            script = client.register_script("return {KEYS[1], ARGV[1]}")
            self.check(script([token], [token]), [token.encode()] * 2)

    def blocking(self, client: Any) -> None:
        key = f"list-{self.token()}"
        if self.random.random() < 0.3:
            self.check(client.blpop([key], 0.02), None)
        else:
            client.rpush(key, f"value of {key}")
            reply = client.blpop([key], 0.02)
            self.check(reply and [*reply], [key.encode(), f"value of {key}".encode()], None)

    def subscriber(self, client: Any) -> None:
        channel = self.token()
        subscriber = client.pubsub(ignore_subscribe_messages=True)
        subscriber.subscribe(channel)
        client.publish(channel, f"value of {channel}")
        deadline = time.monotonic() + 0.2
        while time.monotonic() < deadline:
            message = subscriber.get_message(timeout=0.05)
            if message is not None:
                self.check(
                    (message["channel"], message["data"]),
                    (channel.encode(), f"value of {channel}".encode()),
                )
                break
        if self.random.random() < 0.5:
            subscriber.close()

    def queue(self, client: Any) -> None:
        if not hasattr(client, "message_queue"):
            return
        key = f"queue-{self.token()}"
        queue = client.message_queue(key)
        queue.put(f"value of {key}")
        self.check(queue.get(timeout=self.random.choice([0, 1])), f"value of {key}".encode())

    def own_connection(self, client: Any) -> None:
        with client.client() as single:
            for _ in range(self.random.randint(1, 5)):
                with contextlib.suppress(EXPECTED):
                    self.random.choice([self.echo, self.set_and_get, self.pipeline])(single)

    def lock(self, client: Any) -> None:
        token = self.token()
        lock = client.lock(f"lock-{token}", timeout=5, blocking_timeout=0.05)
        with lock:
            self.check(client.get(f"lock-{token}"), lock.local.token, None)

    def who_am_i(self, client: Any) -> None:
        info = client.client_info()
        name = client.connection_pool.connection_kwargs["client_name"]
        self.check((info["name"], info["db"], info["flags"]), (name, 0, "N"))

    # What one shouldn't do

    def rogue(self, client: Any) -> None:
        """Take connections by hand, and leave them in a state, or use them when released."""
        pool = client.connection_pool
        token = self.token()
        connection = pool.get_connection()
        kind = self.random.choice(["twice", "elsewhere", "unread", "altered", "dropped"])
        if kind == "dropped":
            return
        try:
            connection.send_command("ECHO", token)
            if kind != "unread":
                self.check(connection.read_response(), token.encode())
            if kind == "altered":
                command = self.random.choice([("SELECT", 1), ("WATCH", SHARED), ("MULTI",)])
                connection.send_command(*command)
                connection.read_response()
            if kind == "elsewhere":
                (other,) = {target.pool for target in self.hunt.targets} - {pool}
                self.refused(other.release, connection)
        finally:
            pool.release(connection)
        if kind == "twice":
            self.refused(pool.release, connection)
            self.refused(connection.send_command, "ECHO", token)
            self.refused(connection.read_response)

    def refused(self, call: Callable[..., Any], *args: Any) -> None:
        """A call that has to be refused as the caller's mistake."""
        try:
            call(*args)
        except PoolReleaseError:
            self.refusals += 1
        else:
            if self.hunt.targets[0].refuses:
                self.hunt.unexpected.append(f"{call} of what was released isn't refused")

    # What a forked process does

    def held_by_parent(self, target: Any) -> Any:
        """What is taken now, and used on both sides of a fork: a pipeline that watches, a client.

        The third is what the pipeline will answer.
        """
        token = self.token()
        pipeline = target.client().pipeline()
        pipeline.watch(token)
        pipeline.multi()
        pipeline.echo(token)
        return pipeline, target.client().client(), [token.encode()]

    def child(self, target: Any, pipeline: Any, single: Any) -> None:
        """Use what is inherited; what the parent holds has to be refused."""
        client = target.client()
        for op in (self.echo, self.set_and_get, self.pipeline, self.own_connection):
            for asked in (client, single):
                with contextlib.suppress(EXPECTED):
                    op(asked)
        inherited = pipeline.connection
        if self.hunt.targets[0].refuses:
            try:
                pipeline.execute()
            except redis.ConnectionError:
                pass  # a ForkedConnectionError, unless the weather was faster
            else:
                self.hunt.unexpected.append("a child executed its parent's transaction")
            if inherited is not None:
                self.refused(target.pool.release, inherited)
        self.echo(target.client())


class Threads:
    """Workers that are threads; the first of them is the main thread, and gets signals."""

    interruptions: tuple[type[BaseException], ...] = ()
    count, connections = THREADS, 6

    def __init__(self, hunt: Hunt) -> None:
        self.hunt = hunt
        self.random = random.Random(hunt.seed + 1)
        self.threads: dict[int, threading.Thread] = {}
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._disturber = threading.Thread(target=self._disturb, daemon=True)

    @contextlib.contextmanager
    def hurried(self, chance: random.Random) -> Iterator[None]:
        yield

    def spares(self, worker: Worker) -> bool:
        """Don't interrupt it for the rest of its step, if it isn't too late for that."""
        with self._lock:
            late, worker.pending = worker.pending, True
        return not late

    def start(self) -> None:
        sys.setswitchinterval(0.0005)  # more places to be interrupted at
        for worker in self.hunt.workers[1:]:
            thread = threading.Thread(target=worker.live, daemon=True)
            self.threads[worker.number] = thread
            thread.start()
        if "interrupts" in self.hunt.faults:
            self._disturber.start()

    def be_the_first(self) -> None:
        """Work in the main thread, and be interrupted by signals."""
        worker = self.hunt.workers[0]
        chance = random.Random(self.hunt.seed + 2)
        client = self.hunt.targets[0].client()

        def interrupt(number: int, frame: FrameType | None) -> None:
            if worker.pending or self.hunt.over:
                return
            worker.pending = True
            if chance.random() < 0.2:  # as a handler might, it uses the pool
                with contextlib.suppress(EXPECTED):
                    worker.echo(client)
            raise Interrupted

        if "signals" in self.hunt.faults:
            signal.signal(signal.SIGALRM, interrupt)
            signal.setitimer(signal.ITIMER_REAL, 0.01, 0.0071)
        worker.live()
        signal.setitimer(signal.ITIMER_REAL, 0)

    def _disturb(self) -> None:
        while not self._stop.wait(self.random.uniform(0, 0.008)):
            worker = self.random.choice(self.hunt.workers[1:])
            identity = ctypes.c_ulong(self.threads[worker.number].ident)
            with self._lock:
                if not worker.pending:
                    worker.pending = True
                    _set_async_exc(identity, ctypes.py_object(Interrupted))

    def leave_alone(self) -> None:
        self._stop.set()
        if self._disturber.ident:
            self._disturber.join(10)

    def join(self, seconds: float) -> list[str]:
        """Wait for all; the stacks of those who are stuck."""
        deadline = time.monotonic() + seconds
        for thread in self.threads.values():
            thread.join(max(0, deadline - time.monotonic()))
        stuck = [thread for thread in self.threads.values() if thread.is_alive()]
        frames = sys._current_frames()
        return [_stack(frames[thread.ident or 0]) for thread in stuck]

    @staticmethod
    def fork(child: Callable[[], None]) -> int:
        """Fork; the child does nothing but ``child()``, which ends it."""
        pid = os.fork()
        if pid == 0:
            child()
        return pid


class Greenlets:
    """Workers that are greenlets; they are killed, and time out."""

    count, connections = GREENLETS, 20

    def __init__(self, hunt: Hunt) -> None:
        import gevent

        self.gevent = gevent
        self.interruptions = (gevent.GreenletExit, gevent.Timeout)
        self.hunt = hunt
        self.random = random.Random(hunt.seed + 1)
        self.greenlets: list[Any] = []
        self._over = False

    @contextlib.contextmanager
    def hurried(self, chance: random.Random) -> Iterator[None]:
        if "interrupts" not in self.hunt.faults or chance.random() > 0.05:
            yield
            return
        with self.gevent.Timeout(chance.choice([0.0001, 0.003, 0.05])):
            yield

    def spares(self, worker: Worker) -> bool:
        return True  # nothing happens to it but where it waits

    def start(self) -> None:
        self.greenlets = [self.gevent.spawn(worker.live) for worker in self.hunt.workers]
        if "interrupts" in self.hunt.faults:
            self.gevent.spawn(self._disturb)

    def be_the_first(self) -> None:
        pass

    def _disturb(self) -> None:
        while not self._over:
            self.gevent.sleep(self.random.uniform(0, 0.008))
            greenlet = self.random.choice(self.greenlets)
            kind = self.random.choice([Interrupted, self.gevent.GreenletExit])
            greenlet.kill(kind, block=False)

    def leave_alone(self) -> None:
        self._over = True

    def join(self, seconds: float) -> list[str]:
        """Wait for all; the stacks of those who are stuck."""
        self.gevent.joinall(self.greenlets, timeout=seconds)
        stuck = [greenlet for greenlet in self.greenlets if not greenlet.dead]
        return [_stack(greenlet.gr_frame) for greenlet in stuck]

    @staticmethod
    def fork(child: Callable[[], None]) -> int:
        """Fork a thread of its own.

        Behind a fork of this one, the child would have a copy of each greenlet. As soon as anything
        waits, and OpenTelemetry does while it is forked, they go on, and read what their parents
        were to read: a forked event loop is nobody's to save.
        """
        from gevent import monkey

        fork, sleep = monkey.get_original("os", "fork"), monkey.get_original("time", "sleep")
        forked: list[int] = []

        def run() -> None:
            pid = fork()
            if pid == 0:
                child()
            forked.append(pid)

        monkey.get_original("_thread", "start_new_thread")(run, ())
        while not forked:
            sleep(0.0002)
        return forked[0]


class Hunt:
    """One hunt, and what it found.

    :param faults: which of ``FAULTS`` there are.
    """

    def __init__(
        self, *, seconds: float, seed: int, faults: frozenset[str], stock: bool, gevent: bool
    ) -> None:
        self.seconds = seconds
        self.seed = seed
        self.faults = faults
        self.stock = stock
        self.over = False
        self.wrong: list[str] = []
        self.unexpected: list[str] = []
        self.unraisable: list[str] = []
        self.children = 0
        self.failed_children: list[str] = []
        self.crew: Any = Greenlets(self) if gevent else Threads(self)
        self.targets: list[Any] = []
        self.workers: list[Worker] = []
        self._next_fork = 0.0

    def main(self) -> int:
        """Hunt; 0 if nothing was found."""
        trace.set_tracer_provider(TracerProvider())
        _settle_logging()
        sys.unraisablehook = self._note_unraisable
        faulthandler.dump_traceback_later(self.seconds + 3 * MOST_SECONDS_OF_A_STEP, exit=True)
        weather = WeatherProcess(self.seed, "weather" in self.faults)
        make, size = Stock if self.stock else Ours, self.crew.connections
        self.targets = [
            make("hunt-direct", weather.port, size, health_check_interval="1 s",
                 breaker_failures="20", breaker_reset="20 ms"),
            make("hunt-through-proxy", weather.proxy_port, size, protocol="2", retries="2",
                 retry_budget="1 s", max_lifetime="2 s", max_idle_time="500 ms",
                 leak_warning="1 s"),
        ]  # fmt: skip
        self.workers = [Worker(self, number) for number in range(self.crew.count)]
        code: list[int] = []
        # Not in the main thread, which may be stuck.
        supervisor = threading.Thread(target=lambda: code.append(self._supervise(weather)))
        self.crew.start()
        supervisor.start()
        self.crew.be_the_first()
        supervisor.join()
        return code[0]

    def _supervise(self, weather: WeatherProcess) -> int:
        time.sleep(self.seconds)
        faults = weather.calm_down()
        self.crew.leave_alone()
        self.over = True
        stuck = self.crew.join(MOST_SECONDS_OF_A_STEP)
        main = self._stuck_main()
        if main:
            stuck.append(main)
        problems = [] if stuck else self._problems_at_the_end(weather.port)
        code = self._report(faults, stuck, problems)
        weather.end()
        if stuck:
            os._exit(code)
        return code

    def _stuck_main(self) -> str:
        """The stack of the main thread, if it is the one who is stuck."""
        if not isinstance(self.crew, Threads):
            return ""
        identity = threading.main_thread().ident or 0
        deadline = time.monotonic() + MOST_SECONDS_OF_A_STEP / 3
        while time.monotonic() < deadline:
            frame: FrameType | None = sys._current_frames()[identity]
            while frame is not None and frame.f_code is not Worker.live.__code__:
                frame = frame.f_back
            if frame is None:
                return ""
            time.sleep(0.05)
        return _stack(sys._current_frames()[identity])

    # Forks

    def maybe_fork(self, worker: Worker) -> None:
        """Fork a child that uses what it inherits, unless somebody has just done so."""
        now = time.monotonic()
        if "forks" not in self.faults or now < self._next_fork:
            return
        self._next_fork = now + 0.5
        target = worker.random.choice(self.targets)
        pipeline, single, wanted = worker.held_by_parent(target)
        read, write = os.pipe()
        pid = self.crew.fork(lambda: self._be_child(worker, target, pipeline, single, write))
        os.close(write)
        try:
            # What the child did with it is none of the parent's business.
            with contextlib.suppress(EXPECTED):
                worker.check(pipeline.execute(), wanted)
            with contextlib.suppress(EXPECTED), single:
                worker.echo(single)
        finally:
            self._bury(pid, read)

    def _be_child(
        self, worker: Worker, target: Any, pipeline: Any, single: Any, write: int
    ) -> None:
        try:
            signal.setitimer(signal.ITIMER_REAL, 0)
            self.wrong, self.unexpected, self.unraisable = [], [], []
            self.faults = frozenset()
            self._child(worker, target, pipeline, single)
            found = "\n".join(self.wrong + self.unexpected + self.unraisable)
            os.write(write, found.encode()[:4000] or b"well")
        finally:
            os._exit(0)

    def _child(self, worker: Worker, target: Any, pipeline: Any, single: Any) -> None:
        try:
            worker.child(target, pipeline, single)
        except EXPECTED:
            pass
        except BaseException as error:
            self.unexpected.append("".join(traceback.format_exception(error)))

    def _bury(self, pid: int, read: int) -> None:
        """Wait for a child, and note what it says if it failed; an interruption has to wait."""
        interrupted: BaseException | None = None
        deadline = time.monotonic() + MOST_SECONDS_OF_A_STEP / 3
        os.set_blocking(read, False)
        self.children += 1
        while True:
            try:
                # What it says, not its status: gevent waits for every process that ends.
                said = os.read(read, 4000).decode()
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    os.kill(pid, signal.SIGKILL)
                    said = "it was stuck"
                    break
            except (Interrupted, *self.crew.interruptions) as error:
                interrupted = error
            with contextlib.suppress(Interrupted, *self.crew.interruptions):
                time.sleep(0.005)
        os.close(read)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, 0)  # it ends at once
        if said != "well":
            self.failed_children.append(said or "it ended without a word")
        if interrupted is not None:
            raise interrupted

    # The end

    def _problems_at_the_end(self, port: int) -> list[str]:
        gc.collect()
        problems = []
        admin = redis.Redis(port=port, client_name="admin")
        size = self.crew.connections
        for target in self.targets:
            in_use, _ = target.stats()
            if in_use:
                problems.append(f"{target.name}: {in_use} slots are in use at the end")
            # All at once: this needs each slot, and finds the idle ones that the server closed.
            try:
                taken = [target.pool.get_connection() for _ in range(size)]
            except redis.RedisError as error:
                problems.append(f"{target.name}: not all slots are usable: {error!r}")
                continue
            identities = set()
            for number, connection in enumerate(taken):
                connection.send_command("ECHO", f"last {number}")
                reply = connection.read_response()
                if reply != f"last {number}".encode():
                    self.wrong.append(f"{reply!r} instead of last {number}")
                connection.send_command("CLIENT", "ID")
                identities.add(connection.read_response())
            if len(identities) != size:
                problems.append(f"{target.name}: {size} holders, {len(identities)} sockets")
            for connection in taken:
                target.pool.release(connection)
            del taken, connection
            problems += self._lost_sockets(admin, target)
        return problems

    def _lost_sockets(self, admin: Any, target: Any) -> list[str]:
        deadline = time.monotonic() + 5  # until the server has seen the last ones go
        while True:
            seen = sum(client["name"] == target.name for client in admin.client_list())
            in_use, opened = target.stats()
            if (in_use, opened) == (0, seen):
                return []
            if time.monotonic() > deadline:
                return [f"{target.name}: {in_use} in use, {opened} open, the server sees {seen}"]
            time.sleep(0.05)

    def _note_unraisable(self, unraisable: Any) -> None:
        """What is raised in a destructor reaches nobody else; an interruption may well be."""
        expected = (*EXPECTED, Interrupted, *self.crew.interruptions)
        if not issubclass(unraisable.exc_type, expected):
            lines = traceback.format_exception(
                unraisable.exc_type, unraisable.exc_value, unraisable.exc_traceback
            )
            self.unraisable.append(f"in {unraisable.object!r}\n{''.join(lines)}")

    def _report(self, faults: dict[str, int], stuck: list[str], problems: list[str]) -> int:
        found = {
            "wrong replies": self.wrong,
            "unexpected errors": self.unexpected,
            "errors in destructors": self.unraisable,
            "stuck workers": stuck,
            "slots or sockets not back": problems,
            "children that failed": self.failed_children,
        }
        idle = [worker.number for worker in self.workers if not worker.commands]
        if idle and "interrupts" in self.faults and self.seconds >= 30:
            found["workers without one reply"] = [f"{idle}"]
        errors: Counter[str] = sum((worker.errors for worker in self.workers), Counter())
        table = Table("what", "how many", title=f"the hunt, seed {self.seed}")
        table.add_row("workers", str(len(self.workers)))
        table.add_row("replies checked", str(sum(worker.commands for worker in self.workers)))
        table.add_row("interrupts", str(sum(worker.interrupts for worker in self.workers)))
        table.add_row("misuses refused", str(sum(worker.refusals for worker in self.workers)))
        table.add_row("children", str(self.children), end_section=True)
        for name, count in sorted(faults.items()):
            table.add_row(name, str(count))
        table.add_section()
        for name, count in errors.most_common():
            table.add_row(name, str(count))
        table.add_section()
        for name, items in found.items():
            table.add_row(name, str(len(items)))
        console = Console(highlight=False)
        for name, items in found.items():
            for item in items[:3]:
                console.print(f"--- {name}:\n{item}", markup=False)
        console.print(table)
        failed = {name: len(items) for name, items in found.items() if items}
        text = ", ".join(f"{count} {name}" for name, count in failed.items()) or "nothing"
        console.print(f"found {text}", markup=False)
        return 1 if failed else 0


def _settle_logging() -> None:
    """Let no logger ask for logging's global lock, which an interruption may leave locked."""
    logging.getLogger("pyramid_baseplate_redis").addHandler(logging.NullHandler())
    for name in [*logging.root.manager.loggerDict]:
        for level in (logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR):
            logging.getLogger(name).isEnabledFor(level)


def _stack(frame: FrameType | None) -> str:
    return "".join(traceback.format_stack(frame)[-12:])


def main() -> int:
    parser = argparse.ArgumentParser(prog=f"python -m {__spec__.name}", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--gevent", action="store_true", help="greenlets instead of threads")
    parser.add_argument("--stock", action="store_true", help="redis-py's own pool and client")
    parser.add_argument("--without", choices=FAULTS, action="append", default=[])
    parser.add_argument("--weather", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    faults = frozenset(FAULTS) - {*given.without}
    if given.weather:
        Weather(given.seed, "weather" in faults).main()
        return 0
    if given.gevent and "gevent" not in sys.modules:  # it has to come before everything else
        module = ["-m", "gevent.monkey", "--module", __spec__.name]
        os.execv(sys.executable, [sys.executable, *module, *sys.argv[1:]])
    return Hunt(
        seconds=given.seconds,
        seed=given.seed,
        faults=faults,
        stock=given.stock,
        gevent=given.gevent,
    ).main()


if __name__ == "__main__":
    sys.exit(main())
