"""Limits for gevent's sockets. No test replaces Python's own sockets with them."""

from __future__ import annotations

import socket
import ssl
import time
from typing import Any

import gevent
import gevent.socket
import gevent.ssl
import pytest

from pyramid_baseplate_redis.runtime.gevent_timeouts import in_total, is_gevents, restarts_timeout

from ..support.slow_tls import slow_tls


def test_a_socket_of_gevent_is_distinguished_from_pythons_own() -> None:
    with gevent.socket.socket() as gevents, socket.socket() as pythons:
        assert is_gevents(gevents)
        assert not is_gevents(pythons)


@pytest.mark.parametrize(("module", "restarts"), [(ssl, False), (gevent.ssl, True)])
def test_each_byte_restarts_the_timeout_of_gevents_tls_sockets(module: Any, restarts: bool) -> None:
    with slow_tls(b"", module) as sock:
        assert restarts_timeout(sock) == restarts


def test_no_byte_restarts_the_timeout_of_a_socket_without_tls() -> None:
    with gevent.socket.socket() as sock:
        assert not restarts_timeout(sock)


def test_a_wait_for_gevents_socket_ends_after_the_seconds() -> None:
    with gevent.socket.socket() as sock:
        started = time.monotonic()
        with pytest.raises(TimeoutError), in_total(sock, 0.02):
            gevent.sleep(5)
        assert 0.01 < time.monotonic() - started < 2


def test_a_wait_for_gevents_socket_has_no_end_without_seconds() -> None:
    with gevent.socket.socket() as sock, in_total(sock, None):
        gevent.sleep(0.01)


def test_a_wait_for_pythons_socket_is_left_to_its_own_timeout() -> None:
    with socket.socket() as sock, in_total(sock, 0.001):
        gevent.sleep(0.02)
