"""The report on a soak: a text, and plots."""
