"""The monitored client of one server, with or without Sentinel, and what it makes."""
