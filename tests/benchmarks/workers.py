"""Several workers on all cores: memory that each further one adds, and how soon four of them give good answers."""

from __future__ import annotations

import asyncio
import time

from tests.benchmarks.load import Counted, GrpcUnary, closed_loop, messages
from tests.benchmarks.paths import Shop, until_ready
from tests.benchmarks.processes import Command, ServerProcess, log_path, twinrank

FOUR = 4
LOAD_S = 2.0
"""Every worker has touched its pages by then."""


def measure_workers(shop: Shop, front: str = "grpcio") -> dict[str, float]:
    """`pss_mb_one`, and where the server has --workers `pss_mb_per_further_worker` and `ready_s_four`.

    Raises PathMissing when the server has no --workers.
    """
    four = twinrank(shop.root, front, FOUR)
    _, one_mb = asyncio.run(_started(twinrank(shop.root, front, 1), shop))
    ready_s, four_mb = asyncio.run(_started(four, shop))
    return {
        "pss_mb_one": one_mb,
        "pss_mb_per_further_worker": (four_mb - one_mb) / (FOUR - 1),
        "ready_s_four": ready_s,
    }


async def _started(command: Command, shop: Shop) -> tuple[float, float]:
    """Seconds to the first good answer, and PSS in MB after some load."""
    payloads = [request.SerializeToString() for request in messages(shop.user_ids(), shop.as_of_s)]
    transport, counted = GrpcUnary(payloads), Counted()
    with ServerProcess(command, log_path(shop.workload, "workers"), pinned=False) as server:
        began = time.monotonic()
        await until_ready(server, transport, counted)
        ready_s = time.monotonic() - began
        await closed_loop(transport, LOAD_S, counted)
        pss_mb = server.pss_mb()
        await transport.close()
    return ready_s, pss_mb
