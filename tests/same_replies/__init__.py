"""What the monitored clients return, compared with redis-py, command by command."""
