"""The commands of `python -m index`, one a file; they may import any room, and nothing imports them."""
