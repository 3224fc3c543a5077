"""The settings of an .ini file, checked and typed. No redis-py, no sockets, no telemetry."""
