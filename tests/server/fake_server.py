"""`python -m tests.server.fake_server --config FILE`: the whole server, with the fake engine in it."""

from __future__ import annotations

import sys
from pathlib import Path

from server.config import read_config
from server.lifecycle import run
from tests.server.fake_engine import load_fake

if __name__ == "__main__":
    sys.exit(run(read_config(Path(sys.argv[2])), load_fake))
