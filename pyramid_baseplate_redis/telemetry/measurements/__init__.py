"""Measurements on their way from a command to the histograms."""
