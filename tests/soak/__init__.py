"""A soak: the example app under load and faults for minutes; see __main__.py."""
