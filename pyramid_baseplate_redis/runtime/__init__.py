"""Processes, threads and call stacks: what every other part may use. It knows neither Redis nor Pyramid."""
