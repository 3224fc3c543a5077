"""Spans, metrics and observers. Only this sub-package knows OpenTelemetry's names."""
