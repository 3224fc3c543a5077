"""The monitored client of a Redis Cluster."""
