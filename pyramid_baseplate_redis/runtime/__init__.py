"""Processes, threads and call stacks. Nothing here knows Redis or Pyramid."""
