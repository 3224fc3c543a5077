"""The clients and queues that the settings declare, and the settings that were meant to."""
