"""Response callbacks for a Cluster's transactions, of which redis-py applies only a part.

Outside a transaction a reply passes two callbacks: that of the node's client, then that of the
Cluster's client. Inside a transaction redis-py skips one of them: the first for the replies to
EXEC, the second for replies that are read while keys are watched. This module adds what is missing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from ..client.pipeline_base import copied_callbacks

Callbacks = Mapping[str, Callable[..., Any]]


class TransactionCallbacks:
    """The mapping in which redis-py looks up a command's callback for a reply to EXEC.

    The callback that it finds applies both: that of the node's client and that of the Cluster's.

    :param own: the callbacks of the Cluster's client.
    """

    def __init__(self, own: dict[str, Any]) -> None:
        self._own = own
        #: The callbacks of the node's client. They depend on the protocol, RESP2 or RESP3.
        self.of_node: Callbacks = {}

    def __contains__(self, command: str) -> bool:
        return command in self.of_node or command in self._own

    def __getitem__(self, command: str) -> Callable[..., Any]:
        return partial(self._parse, command)

    def __setitem__(self, command: str, callback: Callable[..., Any]) -> None:
        self._own = copied_callbacks(self._own)
        self._own[command] = callback

    def apply_own(self, command: str, response: Any, **options: Any) -> Any:
        """Apply the Cluster client's callback to a reply that the node's client has parsed."""
        if command not in self._own:
            return response
        options.pop("keys", None)  # an option of redis-py's cache
        return self._own[command](response, **options)

    def _parse(self, command: str, response: Any, **options: Any) -> Any:
        options.pop("keys", None)
        if command in self.of_node:
            response = self.of_node[command](response, **options)
        return self.apply_own(command, response, **options)
