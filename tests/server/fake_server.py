"""`python -m tests.server.fake_server --config FILE [WORKERS]`: the whole server, with the fake engine in it."""

from __future__ import annotations

import sys
from pathlib import Path

from server.config import read_config
from tests.server.fake_engine import FAKE_LOADING, fake_loader

if __name__ == "__main__":
    config = read_config(Path(sys.argv[2]))
    # Workers import this file too, before they begin; what they need grpc for must wait until then.
    if len(sys.argv) > 3:
        from server.workers.supervisor import supervise

        sys.exit(supervise(config, FAKE_LOADING, int(sys.argv[3])))
    from server.lifecycle import run

    sys.exit(run(config, fake_loader(config)))
