"""Waits for messages and claims those whose lease has expired."""
