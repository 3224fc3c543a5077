"""The response callbacks of a Cluster's transaction, of which redis-py leaves out most.

Outside of a transaction a reply is parsed twice: by the node's client, then by the callback that
was set on the Cluster's client. In a transaction redis-py does only the latter to EXEC's replies,
and only the former to what is read while keys are watched.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from ..client.pipeline import copied_callbacks

Callbacks = Mapping[str, Callable[..., Any]]


class TransactionCallbacks:
    """What redis-py looks up for each of EXEC's replies: both callbacks of its command.

    :param own: those of the Cluster's client.
    """

    def __init__(self, own: dict[str, Any]) -> None:
        self._own = own
        #: Those of the node's client, which depend on the protocol.
        self.of_node: Callbacks = {}

    def __contains__(self, command: str) -> bool:
        return command in self.of_node or command in self._own

    def __getitem__(self, command: str) -> Callable[..., Any]:
        return partial(self._parse, command)

    def __setitem__(self, command: str, callback: Callable[..., Any]) -> None:
        self._own = copied_callbacks(self._own)
        self._own[command] = callback

    def apply_own(self, command: str, response: Any, **options: Any) -> Any:
        """Apply the callback of the Cluster's client to what the node's client has parsed."""
        if command not in self._own:
            return response
        options.pop("keys", None)  # is for redis-py's cache
        return self._own[command](response, **options)

    def _parse(self, command: str, response: Any, **options: Any) -> Any:
        options.pop("keys", None)
        if command in self.of_node:
            response = self.of_node[command](response, **options)
        return self.apply_own(command, response, **options)
