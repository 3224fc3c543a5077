"""The tables: which calls are compared."""

from __future__ import annotations

from .clusters import CLUSTERS, LONE_NODE, NODES
from .connections import CLOSING, CONNECTIONS
from .geo import GEO
from .hashes import HASH_ITERATORS, HASHES
from .keys import ITERATORS, KEYS
from .lists import LISTS
from .newer import NEWER
from .scripts import SCRIPTS
from .sentinels import SENTINELS
from .servers import COMMANDS, REPLICATION, SAVING, SERVERS
from .sets import SET_ITERATORS, SETS
from .sorted_sets import SORTED_SETS, SORTED_SETS_ALONE
from .streams import STREAMS
from .strings import STRINGS
from .users import ACL

DATA = [STRINGS, HASHES, LISTS, SETS, SORTED_SETS, STREAMS, GEO]
ANYWHERE = [
    *DATA,
    KEYS,
    SCRIPTS,
    SERVERS,
    SAVING,
    ACL,
    COMMANDS,
    CONNECTIONS,
    ITERATORS,
    HASH_ITERATORS,
    SET_ITERATORS,
    SORTED_SETS_ALONE,
]
"""What one may call on one server, through Sentinel and on a Cluster."""

WITH_SENTINELS = [*ANYWHERE, CLOSING]
ON_ONE_SERVER = [*ANYWHERE, CLOSING, REPLICATION, NEWER]
ON_A_CLUSTER = [*ANYWHERE, CLUSTERS, NODES]

__all__ = [
    "ANYWHERE",
    "CLUSTERS",
    "CONNECTIONS",
    "DATA",
    "LONE_NODE",
    "NODES",
    "ON_A_CLUSTER",
    "ON_ONE_SERVER",
    "SENTINELS",
    "WITH_SENTINELS",
]
