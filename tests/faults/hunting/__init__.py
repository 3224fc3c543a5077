"""The parts of the hunt for wrong replies; see tests/faults/hunt.py."""
