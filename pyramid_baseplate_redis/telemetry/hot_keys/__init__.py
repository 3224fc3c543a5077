"""The keys that a process uses most: sampled, counted, and shown by ``predis hotkeys``."""
