"""The commands that renew leases and settle messages, and the errors of lost leases."""

from __future__ import annotations

import logging
from typing import Any
from unittest.mock import Mock, call

import pytest
import redis

from pyramid_baseplate_redis import LeaseLostError
from pyramid_baseplate_redis.queues.messages import DurableMessage
from pyramid_baseplate_redis.queues.settling import removal
from pyramid_baseplate_redis.queues.settling.leases import MessageLeases

from ..fakes import Clock, ScriptedServer, spec_of

KEY = "{jobs}:messages"
NO_GROUP = redis.ResponseError("NOGROUP No such key or consumer group")
REFUSED = redis.ResponseError("LOADING the server is starting")


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock(monkeypatch)
    clock.now = 100.0
    return clock


class Parts:
    """The leases of a queue with a lease of 10 seconds, whose server has these replies."""

    def __init__(self, *replies: Any, **options: Any) -> None:
        self.server = ScriptedServer(*replies)
        removal._has_xackdel[self.server.pool] = False
        self.waiting, self.dead, self.unique, self.tracer = Mock(), Mock(), Mock(), Mock()
        self.waiting.park.return_value = []
        commands: Any = self.server
        self.leases = MessageLeases(
            spec_of(**options), commands, self.dead, self.waiting, self.unique, self.tracer
        )

    def message(
        self, number: int, attempts: int = 1, leased_at: float = 99.0, is_settled: bool = False
    ) -> DurableMessage:
        made = DurableMessage(self.leases, b"%d-0" % number, [b"body", b"job"], attempts, leased_at)
        made.is_settled = is_settled
        return made


def pending(number: int, idle: int, delivered: int = 1, consumer: bytes = b"first") -> Any:
    return [[b"%d-0" % number, consumer, idle, delivered]]


def asked_pending(number: int) -> tuple[Any, ...]:
    return ("XPENDING", KEY, "workers", b"%d-0" % number, b"%d-0" % number, 1)


# Extending


def test_a_lease_is_extended_if_the_message_has_been_idle_since_it_was_looked_at(
    clock: Clock,
) -> None:
    def reply() -> Any:
        clock.now = 103.0
        return [pending(1, 700)]

    parts = Parts(reply, [[b"1-0"]])
    message = parts.message(1)
    parts.leases.extend(message)
    assert parts.server.asked == [
        asked_pending(1), ("XCLAIM", KEY, "workers", "first", 700, b"1-0", "JUSTID"),
    ]  # fmt: skip
    assert message.leased_at == 100.0  # when it was asked for, at the latest


@pytest.mark.parametrize("reply", [NO_GROUP, []], ids=["no group", "not pending"])
def test_a_message_that_is_not_pending_cannot_be_extended(clock: Clock, reply: Any) -> None:
    parts = Parts([reply])
    with pytest.raises(LeaseLostError, match=r"^queue jobs: 1-0 was finished by another consumer"):
        parts.leases.extend(parts.message(1))


def test_an_error_of_the_server_is_not_a_lost_lease(clock: Clock) -> None:
    parts = Parts([REFUSED])
    with pytest.raises(redis.ResponseError, match="LOADING"):
        parts.leases.extend(parts.message(1))
    assert parts.server.calls == [{"errors": True}]


@pytest.mark.parametrize(
    "row", [pending(1, 700, consumer=b"second"), pending(1, 700, delivered=2)], ids=str
)
def test_a_message_that_was_received_again_is_not_claimed(clock: Clock, row: Any) -> None:
    parts = Parts([row])
    with pytest.raises(LeaseLostError, match="1-0 was received again in the meantime"):
        parts.leases.extend(parts.message(1))
    assert parts.server.asked == [asked_pending(1)]


def test_a_claim_that_finds_nothing_is_a_lost_lease(clock: Clock) -> None:
    parts = Parts([pending(1, 700)], [[]])
    message = parts.message(1)
    with pytest.raises(LeaseLostError, match="1-0 was received again in the meantime"):
        parts.leases.extend(message)
    assert message.leased_at == 99.0


def test_a_settled_message_is_not_asked_for(clock: Clock) -> None:
    parts = Parts()
    with pytest.raises(LeaseLostError, match="1-0 is already settled"):
        parts.leases.extend(parts.message(1, is_settled=True))


# Renewing


def test_renewing_claims_those_that_are_still_ours_in_one_command(clock: Clock) -> None:
    looked = [pending(1, 500), pending(2, 300), pending(3, 9, consumer=b"second"), []]
    parts = Parts(looked, [[b"1-0", b"2-0"]])
    messages = [parts.message(number) for number in (1, 2, 3, 4)]
    settled = parts.message(5, is_settled=True)
    assert parts.leases.renew([*messages, settled]) == messages[2:]
    assert parts.server.asked == [
        *(asked_pending(number) for number in (1, 2, 3, 4)),
        ("XCLAIM", KEY, "workers", "first", 300, b"1-0", b"2-0", "JUSTID"),
    ]
    assert [message.leased_at for message in messages] == [100.0, 100.0, 99.0, 99.0]


def test_renewing_returns_those_that_were_received_in_the_meantime(clock: Clock) -> None:
    parts = Parts([pending(1, 500), pending(2, 300)], [[b"2-0"]])
    first, second = parts.message(1), parts.message(2)
    assert parts.leases.renew([first, second]) == [first]
    assert (first.leased_at, second.leased_at) == (99.0, 100.0)


def test_a_message_that_was_delivered_again_to_its_consumer_is_not_renewed(clock: Clock) -> None:
    parts = Parts([pending(1, 500, delivered=2)])
    message = parts.message(1)
    assert parts.leases.renew([message]) == [message]
    assert len(parts.server.asked) == 1


def test_renewing_is_one_operation(clock: Clock) -> None:
    parts = Parts([pending(1, 500)], [[b"1-0"]])
    parts.leases.renew([parts.message(1)])
    assert parts.server.calls == [{"name": "renew", "errors": True}, {}]


def test_renewing_nothing_asks_nothing(clock: Clock) -> None:
    parts = Parts()
    assert parts.leases.renew([parts.message(1, is_settled=True)]) == []
    assert parts.server.asked == []


def test_a_missing_group_has_lost_the_leases_that_are_renewed(clock: Clock) -> None:
    parts = Parts([NO_GROUP, pending(2, 500)], [[b"2-0"]])
    first, second = parts.message(1), parts.message(2)
    assert parts.leases.renew([first, second]) == [first]


def test_an_error_is_raised_and_nothing_is_renewed(clock: Clock) -> None:
    parts = Parts([pending(1, 500), REFUSED])
    with pytest.raises(redis.ResponseError, match="LOADING"):
        parts.leases.renew([parts.message(1), parts.message(2)])


# Acknowledging


def removal_replies(count: int) -> list[int]:
    """Return the replies to XDEL and XACK."""
    return [count, count]


def test_messages_are_acknowledged_together(clock: Clock) -> None:
    parts = Parts(removal_replies(2))
    messages = [parts.message(1), parts.message(2)]
    parts.leases.acknowledge(messages)
    assert parts.server.asked == [
        ("XDEL", KEY, b"1-0", b"2-0"), ("XACK", KEY, "workers", b"1-0", b"2-0"),
    ]  # fmt: skip
    assert parts.server.calls == [
        {"name": "acknowledge", "settlement": parts.tracer.settlement.return_value}
    ]
    assert parts.tracer.settlement.mock_calls == [call("ack", ["1-0", "2-0"])]
    assert [message.is_settled for message in messages] == [True, True]
    assert parts.unique.free.mock_calls == [call(messages)]


def test_until_half_of_its_lease_a_message_is_not_extended(clock: Clock) -> None:
    parts = Parts(removal_replies(1))
    parts.leases.acknowledge([parts.message(1, leased_at=95.0)])
    assert [command[0] for command in parts.server.asked] == ["XDEL", "XACK"]


def test_past_half_of_its_lease_a_message_is_extended_first(clock: Clock) -> None:
    parts = Parts([pending(1, 5001)], [[b"1-0"]], removal_replies(1))
    parts.leases.acknowledge([parts.message(1, leased_at=94.999)])
    names = [command[0] for command in parts.server.asked]
    assert names == ["XPENDING", "XCLAIM", "XDEL", "XACK"]


def test_a_message_that_is_gone_is_a_lost_lease_and_settled(clock: Clock) -> None:
    parts = Parts(removal_replies(0))
    message = parts.message(1)
    with pytest.raises(LeaseLostError, match=r"^queue jobs: 1-0 was finished by another consumer$"):
        parts.leases.acknowledge([message])
    assert message.is_settled


def test_one_gone_message_of_several_is_not_known_by_its_identifier(clock: Clock) -> None:
    parts = Parts(removal_replies(1))
    with pytest.raises(LeaseLostError, match="1-0 or others of 2 was finished by another"):
        parts.leases.acknowledge([parts.message(1), parts.message(2)])


def test_a_settled_message_keeps_no_other_from_being_acknowledged(clock: Clock) -> None:
    parts = Parts(removal_replies(1))
    settled, message = parts.message(1, is_settled=True), parts.message(2)
    with pytest.raises(LeaseLostError, match="1-0 is already settled"):
        parts.leases.acknowledge([settled, message])
    assert message.is_settled


def test_without_a_message_that_is_ours_nothing_is_removed(clock: Clock) -> None:
    parts = Parts()
    with pytest.raises(LeaseLostError):
        parts.leases.acknowledge([parts.message(1, is_settled=True)])
    assert parts.server.asked == []
    assert not parts.unique.free.called


# Giving back


def parked(parts: Parts) -> list[Any]:
    return [each.args[:2] for each in parts.waiting.park.mock_calls]


def test_given_back_messages_wait_for_their_delay(clock: Clock) -> None:
    parts = Parts()
    messages = [parts.message(1, attempts=2), parts.message(2)]
    parts.leases.give_back(messages, 3)
    assert parked(parts) == [([(b"1-0", 2), (b"2-0", 1)], [3, 3])]
    assert parts.tracer.settlement.mock_calls == [call("nack", ["1-0", "2-0"])]
    assert [message.is_settled for message in messages] == [True, True]


def test_messages_that_were_not_begun_have_one_attempt_less_and_do_not_wait(clock: Clock) -> None:
    parts = Parts()
    parts.leases.put_back([parts.message(1, attempts=2)])
    assert parked(parts) == [([(b"1-0", 1)], [0.0])]


def test_a_message_that_is_gone_cannot_be_given_back(clock: Clock) -> None:
    parts = Parts()
    parts.waiting.park.return_value = [b"2-0"]
    first, second = parts.message(1), parts.message(2)
    with pytest.raises(LeaseLostError, match="2-0 was finished by another consumer"):
        parts.leases.give_back([first, second], 0)
    assert (first.is_settled, second.is_settled) == (True, True)


def test_giving_back_settled_messages_parks_nothing(clock: Clock) -> None:
    parts = Parts()
    with pytest.raises(LeaseLostError, match="1-0 is already settled"):
        parts.leases.give_back([parts.message(1, is_settled=True)], 0)
    assert parked(parts) == []


# Failing


def test_a_failed_message_waits_as_long_as_the_queue_says(clock: Clock) -> None:
    parts = Parts(delay=7.0)
    parts.leases.fail([parts.message(1, attempts=2)], KeyError(), None)
    assert parked(parts) == [([(b"1-0", 2)], [7.0])]
    assert not parts.dead.bury.called


@pytest.mark.parametrize("delay", [0, 4])
def test_a_delay_replaces_the_wait_of_the_queue(clock: Clock, delay: float) -> None:
    parts = Parts(delay=7.0)
    parts.leases.fail([parts.message(1)], KeyError(), delay)
    assert parked(parts) == [([(b"1-0", 1)], [delay])]


def test_after_the_last_attempt_a_message_is_a_dead_letter(
    clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    parts = Parts()
    again, last = parts.message(1, attempts=2), parts.message(2, attempts=3)
    error = KeyError("no")
    parts.leases.fail([again, last], error, 0)
    assert parked(parts) == [([(b"1-0", 2)], [0])]
    assert parts.dead.bury.mock_calls == [call(last, error, 3)]
    assert parts.unique.free.mock_calls == [call([last], are_dead=True)]
    assert caplog.record_tuples == [
        ("pyramid_baseplate_redis.queues.settling", logging.WARNING,
         "queue jobs: 2-0 is a dead letter after 3 attempts: KeyError"),
    ]  # fmt: skip


def test_a_lost_lease_keeps_no_other_message_from_becoming_a_dead_letter(clock: Clock) -> None:
    parts = Parts()
    lost, last = parts.message(1, is_settled=True), parts.message(2, attempts=3)
    with pytest.raises(LeaseLostError, match="1-0 is already settled"):
        parts.leases.fail([lost, last], KeyError(), 0)
    assert parts.dead.bury.call_args.args[0] is last


def test_a_last_attempt_whose_lease_is_lost_is_not_a_dead_letter(clock: Clock) -> None:
    parts = Parts()
    lost, again = parts.message(1, attempts=3, is_settled=True), parts.message(2)
    with pytest.raises(LeaseLostError, match="1-0 is already settled"):
        parts.leases.fail([lost, again], KeyError(), 0)
    assert not parts.dead.bury.called
    assert parked(parts) == [([(b"2-0", 1)], [0])]
