"""Spans and metrics of message queues, after OpenTelemetry's conventions for messaging."""
