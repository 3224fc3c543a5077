"""The monitored client of one server, also behind Sentinel."""
