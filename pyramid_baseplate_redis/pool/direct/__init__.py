"""The short way of a command to the server and of its reply back, past redis-py's layers."""
