"""The pool against a model of it: whatever is done in whatever order, both agree on the outcome."""

from __future__ import annotations

import faulthandler
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
import redis
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from pyramid_baseplate_redis.exceptions import PoolReleaseError, PoolTimeoutError
from pyramid_baseplate_redis.pool import blocking_pool, housekeeping
from pyramid_baseplate_redis.telemetry.stats import PoolStats

from ..support.servers import Server, wait_until
from .helpers import in_child, pool_of, unique

pytestmark = pytest.mark.slow("a long property test")

SIZE = 3
MAX_IDLE, MAX_LIFETIME, JITTER = 50.0, 500.0, 0.95
ENDS_AFTER = MAX_LIFETIME * JITTER

held_ones = st.integers(0, SIZE - 1)


@dataclass
class Modelled:
    """A connection as the model sees it.

    :param identity: the server's number of it; ``None`` while it is not connected.
    """

    identity: int | None
    closes_at: float
    idle_since: float = 0.0
    killed: bool = False  # by the server; the pool may not know yet
    unread: bool = False
    watching: bool = False
    altered: bool = False
    real: Any = field(default=None, repr=False)  # the holder's object

    @property
    def unsettled(self) -> bool:
        return self.unread or self.watching or self.altered or self.identity is None

    def lose(self) -> None:
        """The pool's side has closed it."""
        self.identity = None
        self.killed = self.unread = self.watching = self.altered = False


class PoolMachine(RuleBasedStateMachine):
    """One pool, its model, and a second pool to confuse it with."""

    def __init__(self, server: Server, clock: SimpleNamespace) -> None:
        super().__init__()
        self.clock = clock
        self.admin = redis.Redis(port=server.port)
        limits = {"max_idle_time": f"{MAX_IDLE} s", "max_lifetime": f"{MAX_LIFETIME} s"}
        self.pool = pool_of(server, max_connections=str(SIZE), pool_timeout="5 ms", **limits)
        self.other = pool_of(server, max_connections="1")
        self.name = self.pool.connection_kwargs["client_name"]
        self.idle: list[Modelled] = []
        self.held: list[Modelled] = []
        self.released: list[Any] = []
        self.seen: set[int] = set()
        self.waits = self.timeouts = self.creations = self.discards = 0

    def teardown(self) -> None:
        self.held.clear()
        self.pool.disconnect()
        self.other.disconnect()
        self.admin.close()

    # What the model knows

    @property
    def is_empty(self) -> bool:
        return not self.idle and len(self.held) == SIZE

    def modelled(self) -> Modelled:
        """What the pool gives next, as far as it is known before."""
        if not self.idle:
            self.creations += 1
            return Modelled(None, self.clock.now + ENDS_AFTER)
        connection = self.idle.pop()
        if connection.killed or self.clock.now >= connection.closes_at:
            self.discards += 1
            self.creations += 1
            return Modelled(None, self.clock.now + ENDS_AFTER)
        return connection

    def hold(self, connection: Modelled, real: Any) -> None:
        connection.real = real
        identity = ask(real, "CLIENT", "ID")
        if connection.identity is None:
            assert identity not in self.seen
            connection.identity = identity
            self.seen.add(identity)
        assert identity == connection.identity  # the last one that became idle, and nobody else's
        self.held.append(connection)

    def give_back(self, connection: Modelled) -> None:
        """What a release does to the model."""
        self.held.remove(connection)
        real, connection.real = connection.real, None
        if connection.unsettled or self.clock.now >= connection.closes_at:
            self.discards += 1
            return
        connection.idle_since = self.clock.now
        self.idle.append(connection)
        self.released.append(real)

    def chosen(self, number: int) -> Modelled:
        return self.held[number % len(self.held)]

    # Taking and giving back

    # Several at a time, so that there are often several idle ones.

    @rule(count=st.integers(1, SIZE + 1))
    def take(self, count: int) -> None:
        for _ in range(count):
            if self.is_empty:
                self.waits += 1
                self.timeouts += 1
                with pytest.raises(PoolTimeoutError):
                    self.pool.get_connection()
            else:
                self.hold(self.modelled(), self.pool.get_connection())

    @precondition(lambda self: self.held)
    @rule(numbers=st.lists(held_ones, min_size=1, max_size=SIZE))
    def release(self, numbers: list[int]) -> None:
        for number in numbers[: len(self.held)]:
            connection = self.chosen(number)
            self.pool.release(connection.real)
            self.give_back(connection)

    @precondition(lambda self: self.is_empty)
    @rule(number=held_ones)
    def release_while_somebody_waits(self, number: int) -> None:
        taken: list[Any] = []
        self.pool.timeout = 10
        thread = threading.Thread(target=lambda: taken.append(self.pool.get_connection()))
        thread.start()
        wait_until(lambda: self.pool.stats.waiting == 1)
        connection = self.chosen(number)
        self.pool.release(connection.real)
        thread.join(10)
        self.pool.timeout = 0.005
        self.waits += 1
        self.give_back(connection)
        self.hold(self.modelled(), taken.pop())

    @precondition(lambda self: self.held)
    @rule(number=held_ones)
    def drop(self, number: int) -> None:
        self.held.remove(self.chosen(number))

    # What is refused

    @precondition(lambda self: self.released)
    @rule(number=st.integers(0, 10), use=st.booleans())
    def use_or_release_what_is_released(self, number: int, use: bool) -> None:
        released = self.released[number % len(self.released)]
        mistake = partial(ask, released, "PING") if use else partial(self.pool.release, released)
        with pytest.raises(PoolReleaseError, match="released"):
            mistake()

    @precondition(lambda self: self.held)
    @rule(number=held_ones)
    def release_to_another_pool(self, number: int) -> None:
        with pytest.raises(PoolReleaseError, match="belongs to another pool"):
            self.other.release(self.chosen(number).real)

    # What its holder does with it

    @precondition(lambda self: self.held)
    @rule(number=held_ones)
    def use(self, number: int) -> None:
        connection = self.chosen(number)
        if connection.killed:
            with pytest.raises(redis.ConnectionError):
                ask(connection.real, "PING")
            connection.lose()
            return
        if connection.unread:
            connection.real.read_response()
            connection.unread = False
        text = unique()
        assert ask(connection.real, "ECHO", text) == text.encode()
        if connection.identity is None:  # it has connected again
            connection.identity = ask(connection.real, "CLIENT", "ID")
            self.seen.add(connection.identity)

    @precondition(lambda self: any(is_quiet(connection) for connection in self.held))
    @rule(number=held_ones, command=st.sampled_from(["ECHO", "WATCH", "UNWATCH", "SELECT"]))
    def tell(self, number: int, command: str) -> None:
        """Leave a reply unread, or the connection in another state."""
        quiet = [connection for connection in self.held if is_quiet(connection)]
        connection = quiet[number % len(quiet)]
        if command == "ECHO":
            connection.real.send_command("ECHO", "never read")
            connection.unread = True
        elif command == "SELECT":
            ask(connection.real, "SELECT", "1")
            connection.altered = True
        else:
            ask(connection.real, command, *["key"][: command == "WATCH"])
            connection.watching = command == "WATCH"

    # What happens to it. Only where there is something to happen to: of all rules that may be
    # applied, each is as likely as another.

    @precondition(lambda self: any(is_quiet(made) for made in self.idle + self.held))
    @rule(number=st.integers(0, SIZE - 1))
    def kill(self, number: int) -> None:
        quiet = [made for made in self.idle + self.held if is_quiet(made)]
        connection = quiet[number % len(quiet)]
        assert self.admin.client_kill_filter(_id=str(connection.identity)) == 1
        connection.killed = True

    @precondition(lambda self: self.idle or self.held)
    @rule(seconds=st.sampled_from([1.0, MAX_IDLE / 2, MAX_IDLE + 1, ENDS_AFTER + 1]))
    def time_passes(self, seconds: float) -> None:
        self.clock.now += seconds

    @precondition(lambda self: self.idle)
    @rule()
    def keep_house(self) -> None:
        self.pool.keep_house()
        since = self.clock.now - MAX_IDLE
        spare = [connection for connection in self.idle if connection.idle_since < since]
        self.idle = self.idle[len(spare) :]  # the longest idle ones
        self.discards += len(spare)

    @precondition(lambda self: self.idle and self.held)
    @rule(those_in_use=st.booleans())
    def disconnect(self, those_in_use: bool) -> None:
        self.pool.disconnect(inuse_connections=those_in_use)
        self.discards += len(self.idle)
        self.idle.clear()
        if those_in_use:
            for connection in self.held:
                connection.lose()

    @precondition(lambda self: self.idle and self.held)
    @rule()
    def fork(self) -> None:
        assert in_child(self.be_a_child) == (0, 1, len(self.held))

    def be_a_child(self) -> tuple[int, int, int]:
        """Slots in use, slots open, and how many of the parent's connections were refused."""
        refused = 0
        for connection in self.held:
            with pytest.raises(PoolReleaseError, match="Release it in process "):
                self.pool.release(connection.real)
            refused += 1
        own = self.pool.get_connection()
        assert ask(own, "CLIENT", "ID") not in self.seen
        self.pool.release(own)
        figures = self.pool.stats
        return figures.in_use, figures.open, refused

    # What is always true

    @invariant()
    def figures_are_the_model_s(self) -> None:
        assert self.pool.stats == PoolStats(
            max=SIZE,
            open=len(self.idle) + len(self.held),
            idle=len(self.idle),
            in_use=len(self.held),
            waiting=0,
            waits=self.waits,
            timeouts=self.timeouts,
            creations=self.creations,
            discards=self.discards,
        )

    @invariant()
    def the_server_has_the_model_s_connections(self) -> None:
        expected = sorted(made.identity for made in self.idle + self.held if is_alive(made))
        wait_until(lambda: self.connections_at_server() == expected, seconds=2)

    def connections_at_server(self) -> list[int]:
        listed: Any = self.admin.client_list()
        return sorted(int(client["id"]) for client in listed if client["name"] == self.name)


def ask(connection: Any, *command: str) -> Any:
    connection.send_command(*command)
    return connection.read_response()


def is_alive(connection: Modelled) -> bool:
    return connection.identity is not None and not connection.killed


def is_quiet(connection: Modelled) -> bool:
    """Whether nothing is on its way: then a kill or another command comes behind it."""
    return is_alive(connection) and not connection.unread


@pytest.fixture(autouse=True)
def no_deadlock() -> Iterator[None]:
    """In place of the folder's: to make a failure's example smaller takes minutes."""
    faulthandler.dump_traceback_later(400, exit=True)
    yield
    faulthandler.cancel_dump_traceback_later()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """The pool's time, which passes when the test says so, and its dice."""
    made = SimpleNamespace(now=time.monotonic())
    own_time = SimpleNamespace(monotonic=lambda: made.now)
    own_random = SimpleNamespace(uniform=lambda low, high: JITTER)
    for module in (blocking_pool, housekeeping):
        monkeypatch.setattr(module, "time", own_time)
    monkeypatch.setattr(blocking_pool, "random", own_random)
    keeps_house: Callable[..., bool] = lambda pool, seconds: True  # noqa: E731
    monkeypatch.setattr(blocking_pool, "start_background", keeps_house)
    return made


def test_the_pool_does_what_its_model_does(valkey: Server, clock: SimpleNamespace) -> None:
    run_state_machine_as_test(
        lambda: PoolMachine(valkey, clock),
        settings=settings(max_examples=100, stateful_step_count=40, report_multiple_bugs=False),
    )
