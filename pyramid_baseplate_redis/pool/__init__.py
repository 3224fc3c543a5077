"""Connection pools: for one server, for Sentinel, and for an embedded server."""
