"""Spans that are made once, when they end, where this is provably the same as the SDK's way."""
