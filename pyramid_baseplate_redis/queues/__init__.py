"""Message queues in a Redis list and on Redis Streams, for any redis-py client."""
