"""`python -m index list`: every generation, with what its manifest says."""

from __future__ import annotations

from pathlib import Path

from rich.table import Table

from index.commands.location import ConfigOption, RootOption, errors_in_one_line, find_root, print_table
from index.generation import GenerationError, current_id, list_generations, read_manifest


def list_(root: RootOption = None, config: ConfigOption = None) -> None:
    """List the generations; their manifests are verified, their files are not (see verify)."""
    with errors_in_one_line():
        directory = find_root(root, config)
        current = current_id(directory)
        table = Table("", "generation", "created (UTC)", "files", "MB", "parent", "manifest")
        for generation_id in list_generations(directory):
            mark = "current" if generation_id == current else ""
            table.add_row(mark, generation_id, *_describe(directory, generation_id))
        print_table(table)


def _describe(root: Path, generation_id: str) -> tuple[str, ...]:
    try:
        manifest = read_manifest(root, generation_id)
    except (GenerationError, OSError) as error:
        return "", "", "", "", f"{type(error).__name__}"
    size_mb = sum(entry.size_bytes for entry in manifest.files.values()) / 1e6
    created = f"{manifest.created_at:%Y-%m-%d %H:%M:%S}"
    return created, str(len(manifest.files)), f"{size_mb:.1f}", manifest.parent or "", "ok"
