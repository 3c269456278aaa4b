"""`python -m tests.server.store.owning DIRECTORY DURABILITY`: owns an embedded store until it is told to end."""

from __future__ import annotations

import sys
import threading
from pathlib import Path

from server.config import Durability, StoreConfig
from server.store.embedded import EmbeddedStore

if __name__ == "__main__":
    store = EmbeddedStore(StoreConfig(durability=Durability(sys.argv[2])), Path(sys.argv[1]))
    store.start()
    store.until_up(20.0)
    print("pid", store.pid, flush=True)
    threading.Event().wait()
