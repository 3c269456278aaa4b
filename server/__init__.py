"""The server: one gRPC process that answers from the current generation. `python -m server`."""
