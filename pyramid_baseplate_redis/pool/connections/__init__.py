"""Parts of the pool's connections: slots, host names, timeouts, and what their commands change."""
