"""Troubles around the workers: the server fails, time passes, garbage is collected."""

from __future__ import annotations

import gc

from .workers import Workers


class Troubles:
    """The troubles of a schedule; each runs as a thread until the end begins.

    :param workers: whose pool and server it is.
    """

    def __init__(self, workers: Workers) -> None:
        self.workers = workers
        self.scheduler = workers.scheduler
        self.chance = workers.chance

    @property
    def is_ending(self) -> bool:
        return self.workers.is_ending

    def trouble(self) -> None:
        """Be the server's trouble: refusals, silence, restarts, failovers."""
        server, chance = self.workers.invariants.server, self.chance
        while True:
            self.scheduler.sleep(chance.expovariate(1 / 0.02))
            if self.is_ending:
                return
            seconds = chance.choice([0.01, 0.1, 0.7])
            kind = chance.choice(["refuse", "hang", "restart", "demote"])
            self.scheduler.note(f"the server: {kind}")
            if kind == "refuse":
                server.refuses_until = self.scheduler.now + seconds
            elif kind == "hang":
                server.is_silent_until = self.scheduler.now + seconds
            elif kind == "restart":
                server.close_all()
            else:
                server.is_replica = not server.is_replica

    def collects(self) -> None:
        """Collect garbage regularly, as Python does: it may hold a connection."""
        while not self.is_ending:
            self.scheduler.sleep(0.3)
            gc.collect()

    def stalls(self) -> None:
        """Let time pass now and then while no thread runs."""
        while True:
            self.scheduler.sleep(self.chance.expovariate(1 / 0.02))
            if self.is_ending:
                return
            self.scheduler.pass_time(self.chance.choice([0.002, 0.02, 0.3]))
