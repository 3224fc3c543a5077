"""Mutation testing: ``python -m tests.mutation``; see ``docs/contributing/mutation.rst``."""
