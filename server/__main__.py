"""`python -m server [--config FILE]`: serves the current generation until SIGTERM or SIGINT."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from index.generation import open_generation, read_key
from server.batching import Engine
from server.config import ConfigError, Front, ServerConfig, read_config
from server.generations import Loader
from server.lifecycle import run
from server.model import load_engine


def main() -> int:
    """The command; its result is the exit status."""
    parser = argparse.ArgumentParser(prog="python -m server", description=__doc__)
    parser.add_argument("--config", type=Path, metavar="FILE", help="TOML file; see docs/configuration.md")
    parser.add_argument("--front", choices=[front.value for front in Front], help="overrides listen.front")
    arguments = parser.parse_args()
    try:
        if arguments.front is not None:
            os.environ["TWINRANK_LISTEN__FRONT"] = arguments.front
        config = read_config(arguments.config)
        return run(config, _loader(config))
    except (ConfigError, RuntimeError, OSError) as error:
        print(f"server: {error}", file=sys.stderr)
        return 2


def _loader(config: ServerConfig) -> Loader:
    key_file = config.generations.signature_key_file
    key = read_key(key_file) if key_file is not None else None

    def load(root: Path, generation_id: str) -> Engine:
        return load_engine(open_generation(root, generation_id, key), config.placements)

    return load


if __name__ == "__main__":
    sys.exit(main())
