"""Connections and the pools that keep them: of one server, behind Sentinel, embedded."""
