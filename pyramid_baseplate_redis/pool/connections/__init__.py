"""Parts of the pool's connections: host names, timeouts, and what their commands change."""
