"""Acknowledges received messages, gives them back and moves them to the dead letters."""
