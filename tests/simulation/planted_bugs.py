"""Changes of the product's source that break a promise: the simulation has to find each of them.

The first ones were invented to try the simulation. The others are bugs that it found in the
product: each puts back what the product did before.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

_QUEUE = "pool.fair_queue"
_SLOT = "pool.connections.slot"


@dataclass(frozen=True)
class PlantedBug:
    """A bug.

    :param changes: for each module, texts of its source and what to replace them with.
    :param failure: a regular expression that is found in the failures that it causes.
    :param plan: what of the :class:`~.plan.Plan` is not drawn, for a bug that is rare otherwise.
    :param seed: where the search begins, for a bug that would take half a minute from the first.
    """

    changes: dict[str, tuple[tuple[str, str], ...]]
    failure: str
    plan: dict[str, Any] = field(default_factory=dict)
    seed: int = 1


INVENTED = {
    "a wake-up is dropped": PlantedBug(
        {_QUEUE: (("if turn_continues:\n            self._wake()", "if turn_continues: pass"),)},
        r"callers wait while \d slots are free",
    ),
    "a waiter that has given up stays in line": PlantedBug(
        {_QUEUE: (("self._waiters.remove(waiter)", "pass"),)},
        r"callers wait|slots are lost",
    ),
    "a connection is put back twice": PlantedBug(
        {
            _QUEUE: (
                ("            self._idle.append(entry)\n            if self._waiters:",
                 "            self._idle.extend([entry, entry])\n            if self._waiters:"),
            )
        },
        "gets what .* holds|uses the connection|released before|slots are lost",
    ),
    "a slot is freed twice": PlantedBug(
        {_QUEUE: (("if len(self.taken) >= self.maxsize:", "if len(self.taken) > self.maxsize:"),
                  ("if len(self.taken) > self.maxsize and mine not in", "if False and mine in"))},
        r"connections are open at once|callers hold connections|more slots than",
    ),
    "two callers probe the server": PlantedBug(
        {"pool.circuit_breaker": (("self._probes.take()", "Claims().take()"),
                                  ("periods.setdefault(period, mine) is mine", "True"))},
        "two callers probe",
        {"is_faulty": True, "has_breaker": True, "workers": [["insist"] * 3] * 4},
    ),
    "a turn does not end": PlantedBug(
        {_QUEUE: (("if time.monotonic() < slot.turn_ends:", "if True:"),
                  ("if slot.turn_of != me or time.monotonic() >= slot.turn_ends:",
                   "if slot.turn_of != me:"))},
        "turn of .* does not end",
    ),
    "late callers overtake": PlantedBug(
        {_QUEUE: (("entry = self._take_own() if self._waiters else self._take()",
                   "entry = self._take()"),)},
        "overtakes one who waits|turn of .* does not end",
    ),
    "a leak is logged again and again": PlantedBug(
        {_SLOT: ((" or self.warned_at == taken_at:", ":"),)},
        r"\d leak warnings for",
    ),
    "a reply is left unread": PlantedBug(
        {"pool.connection": (("self._owed\n            or self._watching\n            or self._alt",
                              "self._watching\n            or self._alt"),)},
        "the reply .* to the question",
    ),
}  # fmt: skip

FOUND = {
    "a late failure lets a second caller probe the server": PlantedBug(
        {"pool.circuit_breaker": (("            self._periods = {}",
                                   "            self._periods, self._probes = {}, Claims()"),)},
        "two callers probe",
    ),
    "two callers start the background thread": PlantedBug(
        {"pool.blocking_pool": (("                self._start_background()", "                "
                                 "self._has_background = start_background(self, self._round)"),)},
        "background threads",
    ),
    "a thread that releases late releases the next caller's connection": PlantedBug(
        {"pool.owned_connection": (("state = self.__dict__.copy()", "state = self.__dict__"),)},
        "has no attribute 'slot'|gets what|released by two threads|PoolReleaseError",
        {"size": 1, "workers": [["share"] * 3] * 3, "is_interrupted": False, "is_faulty": False},
        seed=4300,
    ),
    "an interrupted waiter stays in line with what it was given": PlantedBug(
        {
            _QUEUE: (
                ("            given = self._leave(waiter)\n            if self._idle:\n"
                 "                self._wake()\n", ""),
                ("        if not given:\n", "        given = self._leave(waiter)\n"
                 "        if self._idle:\n            self._wake()\n        if not given:\n"),
            )
        },
        "callers wait at the end|slots are lost",
    ),
    "a caller waits longer than pool_timeout": PlantedBug(
        {_QUEUE: (("        return given + waiter.take()",
                   "        if not given:\n            waiter.wait(POLL_SECONDS)\n"
                   "        return given + waiter.take()"),)},
        "waits .* seconds, and may",
    ),
    "a caller is not woken when an old connection is closed": PlantedBug(
        {"pool.housekeeping": (("self.pool.serve()  # a caller may", "# a caller may"),)},
        r"callers wait while \d slots are free",
        {"is_interrupted": False, "is_lossy": False, "size": 1, "max_idle_time": 0.02,
         "workers": [["use", "pause"] * 3] * 4},
    ),
    "a slot without a connection becomes idle": PlantedBug(
        {_QUEUE: (("        while given:\n            self._put_back(given.pop())",
                   "        while given:\n            self.put(given.pop())"),)},
        "'NoneType' object has no attribute 'disconnect'",
        {"is_interrupted": True, "size": 1, "workers": [["use", "disconnect"] * 2] * 5},
    ),
    "a slot that is put back looks taken": PlantedBug(
        {_QUEUE: (("            del entry  # _take() finds", "            # _take() finds"),)},
        r"callers wait while \d slots are free",
        {"is_interrupted": False, "is_lossy": False, "size": 1, "pool_timeout": 0.003,
         "workers": [["unread", "unread"]] * 7},
    ),
    "a list of the slots keeps a weak reference": PlantedBug(
        {_QUEUE: (("in list(map(_slot_of, self.taken))",
                   "in [ref() for ref in tuple(self.taken)]"),)},
        "a finalizer raised KeyError",
        {"is_faulty": False, "leak_warning": 0.03, "max_lifetime": 0.01,
         "workers": [["use", "hold"] * 2] * 4},
        seed=700,
    ),
    "a slot is not registered yet when an exception comes": PlantedBug(
        {_QUEUE: (("self.taken[mine := weakref.ref(slot, self.taken.pop)] = None",
                   "mine = weakref.ref(slot, self.taken.pop)\n        self.taken[mine] = None"),)},
        "a finalizer raised (KeyError|TypeError)",
        {"is_interrupted": True, "max_lifetime": 0.01},
    ),
}  # fmt: skip
