"""OpenTelemetry's metrics of message queues: durations of operations, numbers of messages.

A wait that ends without a message is not recorded, and it has no span either.
"""

from __future__ import annotations

import time

from opentelemetry.metrics import Counter
from opentelemetry.util.types import Attributes, AttributeValue

from .. import otel
from ..measurements.buffer import measurements
from ..measurements.measurement import Recorder
from ..operations import ClientTelemetry
from ..otel import meter
from ..semantic_conventions import (
    ERROR_TYPE,
    MESSAGING_CLIENT_CONSUMED_MESSAGES,
    MESSAGING_CLIENT_OPERATION_DURATION,
    MESSAGING_CLIENT_SENT_MESSAGES,
    MESSAGING_CONSUMER_GROUP_NAME,
    MESSAGING_DESTINATION_NAME,
    MESSAGING_OPERATION_NAME,
    MESSAGING_OPERATION_TYPE,
    MESSAGING_PROCESS_DURATION,
    MESSAGING_SYSTEM,
)

# Seconds, from the conventions.
BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10)


class _Count:
    """A counter in the form that the measurement buffer records."""

    def __init__(self, counter: Counter) -> None:
        self.instrument = counter

    def record(self, amount: float, attributes: Attributes = None, context: object = None) -> None:
        self.instrument.add(amount, attributes, context)  # type: ignore[arg-type]


class MessageMetrics:
    """Records the operations on one queue, if metrics are on.

    All parameters ``started`` are times of :func:`time.perf_counter`.

    :param telemetry: the client's, whose settings decide whether metrics are on.
    :param destination: the queue's name.
    :param group: the consumer group's name, if the queue has one.
    """

    def __init__(self, telemetry: ClientTelemetry, destination: str, group: str = "") -> None:
        self._telemetry = telemetry
        self._sending: dict[str, AttributeValue] = {
            MESSAGING_SYSTEM: "redis",
            MESSAGING_DESTINATION_NAME: destination,
            **telemetry.tracer.server,
        }
        self._receiving = dict(self._sending)
        if group:
            self._receiving[MESSAGING_CONSUMER_GROUP_NAME] = group

    def sent(self, started: float, count: int, error: BaseException | None = None) -> None:
        """Record that messages were sent, or that sending failed with ``error``.

        :param count: the number of messages that the client tried to send.
        """
        if not self._telemetry.is_metered():
            return
        attributes = {**self._sending, MESSAGING_OPERATION_NAME: "send"}
        self._record(_operation_duration, started, attributes, error, "send")
        if count:
            self._add(_sent, count, attributes, error)

    def received(self, started: float, count: int, error: BaseException | None = None) -> None:
        """Record that messages were received, or that receiving failed with ``error``."""
        if not self._telemetry.is_metered():
            return
        attributes = {**self._receiving, MESSAGING_OPERATION_NAME: "receive"}
        self._record(_operation_duration, started, attributes, error, "receive")
        if count:
            self._add(_consumed, count, attributes, error)

    def processed(self, started: float, error: BaseException | None = None) -> None:
        """Record that the processing of messages has ended, maybe with ``error``."""
        if not self._telemetry.is_metered():
            return
        attributes = {**self._receiving, MESSAGING_OPERATION_NAME: "process"}
        self._record(_process_duration, started, attributes, error)

    def settled(self, started: float, name: str, error: BaseException | None = None) -> None:
        """Record that messages were settled, or that settling failed with ``error``.

        :param name: the operation's name, such as ``ack``.
        """
        if not self._telemetry.is_metered():
            return
        attributes = {**self._receiving, MESSAGING_OPERATION_NAME: name}
        self._record(_operation_duration, started, attributes, error, "settle")

    def _record(
        self, histogram: Recorder, started: float, attributes: dict[str, AttributeValue],
        error: BaseException | None, operation_type: str = "",
    ) -> None:  # fmt: skip
        if operation_type:
            attributes = {**attributes, MESSAGING_OPERATION_TYPE: operation_type}
        self._add(histogram, time.perf_counter() - started, attributes, error)

    def _add(
        self, instrument: Recorder, amount: float, attributes: dict[str, AttributeValue],
        error: BaseException | None,
    ) -> None:  # fmt: skip
        try:
            if error is not None:
                kind = otel.status_code(error) or otel.error_type(error)
                attributes = {**attributes, ERROR_TYPE: kind}
            measurements.add(instrument, amount, attributes)
        except Exception:
            otel.log_once("measuring a message failed")


_operation_duration = meter.create_histogram(
    MESSAGING_CLIENT_OPERATION_DURATION,
    unit="s",
    description="Duration of sending, receiving and settling messages.",
    explicit_bucket_boundaries_advisory=BUCKETS,
)
_process_duration = meter.create_histogram(
    MESSAGING_PROCESS_DURATION,
    unit="s",
    description="Duration of processing messages.",
    explicit_bucket_boundaries_advisory=BUCKETS,
)
_sent = _Count(
    meter.create_counter(
        MESSAGING_CLIENT_SENT_MESSAGES,
        unit="{message}",
        description="The number of messages that the client tried to send.",
    )
)
_consumed = _Count(
    meter.create_counter(
        MESSAGING_CLIENT_CONSUMED_MESSAGES,
        unit="{message}",
        description="The number of messages that were delivered to the application.",
    )
)
