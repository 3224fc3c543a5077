"""The monitored client of a Redis Cluster, its pipelines and transactions, and its pools."""
