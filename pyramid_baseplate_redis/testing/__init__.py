"""Support for the tests of an application: clients on an embedded server, recorded spans."""

from __future__ import annotations

from .application import add_clients, dummy_request, flush, for_tests, includeme, plain_client

__all__ = ["add_clients", "dummy_request", "flush", "for_tests", "includeme", "plain_client"]
