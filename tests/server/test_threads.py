"""One thread for each thread that computes, whichever library does the work."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import faiss
import torch
from threadpoolctl import threadpool_info, threadpool_limits

from server.engine import Engine
from tests.server.real_engine import recommend


def test_the_thread_that_asks_the_engine_computes_alone(engine: Engine) -> None:
    seen: dict[str, object] = {}

    def ask() -> None:
        with threadpool_limits(2):
            before = faiss.omp_get_max_threads()
            engine.answer([recommend("u01")])
            seen.update(before=before, faiss=faiss.omp_get_max_threads(), torch=torch.get_num_threads())
            seen["pools"] = {pool["num_threads"] for pool in threadpool_info()}

    thread = threading.Thread(target=ask)
    thread.start()
    thread.join()
    assert seen == {"before": 2, "faiss": 1, "torch": 1, "pools": {1}}


def test_two_threads_may_ask_one_engine(engine: Engine) -> None:
    queries = [recommend(f"u{number:02d}") for number in range(1, 31)]
    alone, _ = engine.answer(queries)
    with ThreadPoolExecutor(2) as pool:
        for answers, _ in pool.map(lambda _: engine.answer(queries), range(6)):
            assert answers == alone
