"""Faults: what breaks between us and the server, on real servers."""
