"""The parts of `python -m towers benchmark`."""
