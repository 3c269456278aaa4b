"""Writes docs/configuration.md from the configuration's model: `python -m server.configuration_page [--check]`."""

from __future__ import annotations

import argparse
import sys
from enum import Enum
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo

from server.config import ENV_PREFIX, PlacementConfig, ServerConfig

PAGE_PATH = Path(__file__).parent.parent / "docs" / "configuration.md"

HEAD = f"""# Configuration of the server

`python -m server --config FILE` reads one TOML file. Without a file the defaults below hold. An environment variable
overrides the file: `{ENV_PREFIX}<SECTION>__<KEY>`, for example `{ENV_PREFIX}LISTEN__PORT=50051` or
`{ENV_PREFIX}PLACEMENTS__HOME__PAGE_SIZE=30`. Unknown keys and unknown variables are errors, and units are in the names.

This page is generated from `server/config.py` (`python -m server.configuration_page`); a test fails when they differ.
"""

PLACEMENTS = """## `[placements.<name>]`

Named places in the shop; requests name one, and an empty name means `home`, which must exist. A file that has any
placement replaces the three defaults: `home`, `product` (`context_items = "seed"`) and `cart` (`context_items =
"cart"`).
"""


def page() -> str:
    """The whole page."""
    parts = [HEAD]
    for name, field in ServerConfig.model_fields.items():
        if name == "placements":
            parts.append(PLACEMENTS + "\n" + _table(PlacementConfig))
        elif isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            parts.append(f"## `[{name}]`\n\n{field.annotation.__doc__}\n\n" + _table(field.annotation))
    return "\n".join(parts)


def _table(model: type[BaseModel]) -> str:
    rows = ["| Key | Type | Default | Meaning |", "|---|---|---|---|"]
    for name, field in model.model_fields.items():
        description = (field.description or "").replace("|", "\\|")
        rows.append(f"| `{name}` | {_type_name(field.annotation)} | {_default(field)} | {description} |")
    return "\n".join(rows) + "\n"


def _type_name(annotation: Any) -> str:
    if isinstance(annotation, type) and issubclass(annotation, Enum):
        return ", ".join(f"`{member.value}`" for member in annotation)
    kinds = [kind for kind in get_args(annotation) or (annotation,) if kind is not type(None)]
    names = {int: "integer", float: "number", bool: "boolean", str: "text", Path: "path", SecretStr: "secret text"}
    return names.get(kinds[0], "table")


def _default(field: FieldInfo) -> str:
    value = field.get_default(call_default_factory=True)
    if value is None:
        return "unset"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, Enum):
        return f"`{value.value}`"
    return f"`{value}`"


def main() -> None:
    """The command: writes the page, or with `--check` fails when it is stale."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; fail when the page is stale")
    if not parser.parse_args().check:
        PAGE_PATH.write_text(page(), encoding="utf-8")
    elif PAGE_PATH.read_text(encoding="utf-8") != page():
        sys.exit(f"{PAGE_PATH.name} is stale; run python -m server.configuration_page")


if __name__ == "__main__":
    main()
