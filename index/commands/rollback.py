"""`python -m index rollback`: go back to the generation that was current before."""

from __future__ import annotations

from index import generation
from index.commands.location import ConfigOption, KeyOption, RootOption, errors_in_one_line, find_key, find_root


def rollback(root: RootOption = None, config: ConfigOption = None, key_file: KeyOption = None) -> None:
    """Make the generation current that was current before; running servers follow."""
    with errors_in_one_line():
        directory = find_root(root, config)
        left = generation.current_id(directory)
        print(f"current: {generation.rollback(directory, find_key(key_file))} (was {left})")
