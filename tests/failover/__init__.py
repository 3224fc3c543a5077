"""Sentinel and Cluster under load while others take over, on real servers."""
