"""Message queues in a Redis list and on Redis Streams, on any client of redis-py's."""
