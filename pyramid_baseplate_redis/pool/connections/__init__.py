"""Parts of the pool's connections: their timeouts, and what their commands change."""
