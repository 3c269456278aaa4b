"""Several worker processes on one port, and the supervisor that starts, watches, replaces and drains them."""
