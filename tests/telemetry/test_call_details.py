"""What connections note of a call for its span, and what of it counts."""

from __future__ import annotations

import pytest

from pyramid_baseplate_redis.telemetry.call_details import (
    CallDetails,
    Peers,
    add_wait_time,
    address_attributes,
    forget_redirection,
    has_call_details,
    note_last_server,
    note_peer,
    note_redirection,
    note_retries,
    note_retry,
    note_server,
    pop_call_details,
    server_attributes,
    without_details,
)

A, B, C = ("a", 1), ("b", 2), ("c", 3)


@pytest.fixture(autouse=True)
def nothing_noted() -> None:
    pop_call_details()


def noted() -> CallDetails:
    details = pop_call_details()
    assert details is not None
    return details


def test_details_are_of_one_call() -> None:
    assert has_call_details() is None
    add_wait_time(1.0)
    assert has_call_details() is not None
    assert noted().waited == 1.0

    assert pop_call_details() is None
    assert has_call_details() is None


def test_waiting_times_are_added_up() -> None:
    add_wait_time(1.0)
    add_wait_time(0.5)

    assert noted().waited == 1.5


def test_retries_are_counted_or_set() -> None:
    note_retry()
    note_retry()
    assert noted().retries == 2

    note_retries(5)
    note_retries(3)
    assert noted().retries == 3


def test_a_redirection_can_be_forgotten() -> None:
    note_redirection()
    note_redirection()
    forget_redirection()
    assert noted().redirections == 1

    forget_redirection()  # there is none
    assert noted().redirections == 0


def test_a_call_that_went_through_at_once_is_ordinary() -> None:
    note_server(*A)
    assert noted().is_ordinary


@pytest.mark.parametrize(
    "note", [lambda: add_wait_time(0.001), lambda: note_retries(1), note_redirection]
)
def test_waiting_retries_and_redirections_are_not_ordinary(note: object) -> None:
    assert callable(note)
    note()
    assert not noted().is_ordinary


def test_each_change_of_the_server_counts() -> None:
    for server in (A, A, B, A):
        note_server(*server)
    details = noted()

    assert (details.server, details.servers) == (A, 3)


@pytest.mark.parametrize(
    ("servers", "redirections", "retries", "is_one"),
    [
        ([], 0, 0, False),
        ([A], 0, 0, True),
        ([A, B], 0, 0, False),
        ([A, B], 1, 0, True),
        ([A, B], 0, 1, True),
        ([A, B, C], 1, 0, False),
        ([A, B, C], 1, 1, True),
    ],
)
def test_one_server_answered_if_the_others_redirected_or_failed(
    servers: list[tuple[str, int]], redirections: int, retries: int, is_one: bool
) -> None:
    for server in servers:
        note_server(*server)
    for _ in range(redirections):
        note_redirection()
    note_retries(retries)

    assert noted().is_of_one_server is is_one


def test_the_last_server_replaces_those_that_failed() -> None:
    note_server(*A, peer=("10.0.0.1", 1))
    note_last_server(*B)
    details = noted()

    assert (details.server, details.servers, details.peer) == (B, 1, None)


def test_the_last_server_keeps_its_peer() -> None:
    note_server(*A, peer=("10.0.0.1", 1))
    note_last_server(*A)
    details = noted()

    assert (details.server, details.servers, details.peer) == (A, 1, ("10.0.0.1", 1))


def test_a_call_that_prepares_another_leaves_no_servers_and_no_redirections() -> None:
    def prepare() -> str:
        note_server(*B, peer=("10.0.0.2", 2))
        note_redirection()
        add_wait_time(1.0)
        return "done"

    note_server(*A, peer=("10.0.0.1", 1))
    assert without_details(prepare)() == "done"
    details = noted()

    assert (details.server, details.peer) == (A, ("10.0.0.1", 1))
    assert (details.servers, details.redirections, details.waited) == (1, 0, 1.0)


def test_the_peer_of_a_pool_is_known_while_there_is_only_one() -> None:
    peers = Peers()
    assert (peers.only, peers.are_several) == (None, False)
    peers.add(A)
    peers.add(A)
    assert (peers.only, peers.are_several) == (A, False)
    assert noted().peer == A

    peers.add(B)
    peers.add(A)
    assert (peers.only, peers.are_several) == (None, True)
    assert noted().peer == A


def test_attributes_name_what_is_known() -> None:
    note_peer(B)
    assert noted().peer == B
    assert address_attributes(None, None) == {}
    assert address_attributes(A, None) == {"server.address": "a", "server.port": 1}
    assert address_attributes(None, B) == {"network.peer.address": "b", "network.peer.port": 2}


@pytest.mark.parametrize(
    ("settings", "attributes"),
    [
        ({}, {}),
        ({"directory": "/var"}, {"server.address": "embedded"}),
        ({"path": "/run/redis"}, {"server.address": "/run/redis"}),
        ({"host": "a"}, {"server.address": "a", "server.port": 6379}),
        ({"host": "a", "port": "7"}, {"server.address": "a", "server.port": 7}),
    ],
)
def test_the_server_is_that_of_the_settings(
    settings: dict[str, str], attributes: dict[str, object]
) -> None:
    assert server_attributes(settings) == attributes
