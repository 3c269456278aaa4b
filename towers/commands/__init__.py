"""The commands of `python -m towers`: composition roots, which nothing imports."""
