"""The rehearsal before the fork: whatever a real generation is then asked, no kernel is compiled or loaded any more."""

from __future__ import annotations

import os
import subprocess
import sys

from server.workers.forkserver import ONE_THREAD
from tests.conftest import SmallGeneration

PROGRAM = """
import sys
from pathlib import Path
from numba.core.dispatcher import Dispatcher
from server.workers.preload import WARMED

def signatures():
    return {
        f"{kernel.py_func.__qualname__}{types}"
        for name, module in list(sys.modules.items()) if name.startswith(("towers.", "index."))
        for kernel in vars(module).values() if isinstance(kernel, Dispatcher)
        for types in kernel.signatures
    }

rehearsed = signatures()
assert len(rehearsed) > 10, rehearsed
assert "server.rehearsal" in WARMED

from server.domain import SimilarItemsQuery
from tests.server.real_engine import event, loader, recommend, score_as
from server.config import ServerConfig
from index.generation import current_id

root = Path(sys.argv[1])
engine = loader(ServerConfig())(root, current_id(root))  # answers the golden queries
plain = recommend("u01")
seeing = recommend("u02", "product", context_item_ids=("shoes-1",), recent_events=(event("shoes-2"),))
buying = recommend("nobody", "cart", context_item_ids=("shoes-1",), exclude_item_ids=("shoes-3", "no such item"))
scored = score_as(plain, ["shoes-1", "no such item"])
engine.answer([plain, seeing, buying, scored, SimilarItemsQuery("shoes-1", 5, ())])
print(*sorted(signatures() - rehearsed), sep="\\n", end="")
"""


def test_nothing_is_compiled_or_loaded_after_it(small_generation: SmallGeneration) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(small_generation.root)],
        capture_output=True,
        text=True,
        env={**os.environ, **ONE_THREAD},
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
