"""The parts of `python -m index compact`."""
