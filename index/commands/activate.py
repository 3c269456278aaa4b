"""`python -m index activate ID`: verify a generation and make it current."""

from __future__ import annotations

from index import generation
from index.commands.location import (
    ConfigOption,
    IdArgument,
    KeyOption,
    RootOption,
    errors_in_one_line,
    find_key,
    find_root,
)


def activate(
    generation_id: IdArgument, root: RootOption = None, config: ConfigOption = None, key_file: KeyOption = None
) -> None:
    """Verify a generation and make it current; running servers follow."""
    with errors_in_one_line():
        generation.activate(find_root(root, config), generation_id, find_key(key_file))
        print(f"current: {generation_id}")
