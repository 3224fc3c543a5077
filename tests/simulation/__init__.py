"""A simulation of the pool: it finds the schedules that threads rarely hit.

The real code of the pool, of its queue, its connections and its circuit breaker runs here, but not
on threads: greenlets take their place, a virtual clock the place of the time, and simulated sockets
the place of a server. Each step is a switch point: the start of each statement, the return of each
call, and each call of a socket. A seed decides at which of them another thread goes on, an
exception is raised, a signal handler uses the pool, the garbage collector runs, or the server
fails. The same seed repeats a schedule that breaks a promise::

    python -m tests.simulation --seconds 60
    python -m tests.simulation --seed 1794 --schedules 1 --trace 500

Modules, in the order in which a reader needs them:

- ``search``: runs many schedules.
- ``schedule``: runs one schedule.
- ``plan``: draws from the seed what the threads do and what goes wrong.
- ``workers``: what the threads do, and the interruptions; ``troubles``: what goes wrong otherwise.
- ``invariants``: the promises.
- ``scheduler`` and ``strategies``: which thread runs.
- ``loading`` and ``points``: copies of the product's modules, with switch points.
- ``standard_library`` and ``network``: the simulated parts of Python, and a server.
- ``planted_bugs``: changes of the product's source that the simulation has to find.

A new promise is a check in ``invariants``. To have switch points in a new module of the
pool, add it to ``loading.MARKED``. The simulation does not cover forks, TLS, Sentinel, Clusters,
and what differs in a free-threaded Python.
"""
