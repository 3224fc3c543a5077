"""The command ``predis``."""
