"""The workers, by the kind of client that they ask."""
