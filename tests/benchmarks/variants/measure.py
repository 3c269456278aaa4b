"""One variant of one part, in a process of its own, so that its memory and its start can be told from the others'.

`python -m tests.benchmarks.variants.measure prepare|load WORKLOAD RECORDED PART VARIANT DIRECTORY` prints a JSON line.
"""

from __future__ import annotations

import argparse
import json
import re
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from server.threads import compute_on_one_thread
from tests.benchmarks.variants.catalogue import VARIANTS
from tests.benchmarks.variants.recorded import BATCH_SIZE, Recorded, read
from tests.benchmarks.variants.variant import Part, Run, Unavailable, Variant, eager, unsplit_graph
from towers.features.histories import FloatArray

BATCH_SIZES = (1, 8, 32)
PASS_REQUESTS = {1: 128, 8: 512, 32: 1_024}
"""How many requests one timed pass asks for, by batch size."""
PASSES = 7
PAGE_SIZE = 20


def prepare(variant: Variant, part: Part, recorded: Recorded, directory: Path) -> dict[str, float]:
    """Seconds that a rebuild would spend."""
    began = time.perf_counter()
    variant.prepare(part, recorded, directory)
    return {"prepare_s": time.perf_counter() - began}


def load(variant: Variant, part: Part, recorded: Recorded, directory: Path) -> dict[str, float]:
    """Start, memory, cost and quality."""
    before_mb = private_mb()
    began = time.perf_counter()
    run = variant.load(part, recorded, directory)
    ask = _asker(variant, part, recorded, run)
    for batch_size in BATCH_SIZES:
        ask(slice(0, batch_size))
    found = {"load_s": time.perf_counter() - began}
    answered = np.concatenate([ask(requests) for requests in _slices(len(recorded), BATCH_SIZE)])
    found["private_mb"] = private_mb() - before_mb
    for batch_size in BATCH_SIZES:
        found[f"cpu_us_{batch_size}"] = _cpu_us(ask, batch_size, min(PASS_REQUESTS[batch_size], len(recorded)))
    return found | _quality(part, recorded, answered)


def private_mb() -> float:
    """Memory that no file backs, so that workers cannot share it: what each further worker costs."""
    text = Path("/proc/self/smaps_rollup").read_text()
    return sum(int(kilobytes) for kilobytes in re.findall(r"Anonymous:\s+(\d+) kB", text)) * 1_024 / 1e6


def _asker(variant: Variant, part: Part, recorded: Recorded, run: Run) -> Callable[[slice], FloatArray]:
    """Gathers the inputs of some requests and runs them."""

    def ask(requests: slice) -> FloatArray:
        return np.asarray(run(*variant.inputs(part, recorded, requests, recorded.vectors[requests])), np.float32)

    return ask


def _cpu_us(ask: Callable[[slice], FloatArray], batch_size: int, request_count: int) -> float:
    """The least of several passes, for each request."""
    slices, passes = _slices(request_count, batch_size), []
    for _ in range(PASSES):
        began = time.process_time()
        for requests in slices:
            ask(requests)
        passes.append((time.process_time() - began) / request_count * 1e6)
    return min(passes)


def _quality(part: Part, recorded: Recorded, answered: FloatArray) -> dict[str, float]:
    """How far the answers and the lists that follow from them are from eager float32's, on the same candidates."""
    present = recorded.rows >= 0
    if part is Part.TOWER:
        found = {"vector_error_max": float(np.abs(answered - recorded.vectors).max())}
        scores = np.concatenate(
            [_rescored(recorded, requests, answered[requests]) for requests in _slices(len(recorded), BATCH_SIZE)]
        )
    else:
        found, scores = {}, answered
    found["score_error_max"] = float(np.abs(scores - recorded.scores)[present].max())
    return found | {"overlap_at_20": overlap(np.where(present, scores, -1), recorded.scores)}


def _rescored(recorded: Recorded, requests: slice, vectors: FloatArray) -> FloatArray:
    """What the eager float32 ranker says of the same candidates for other user vectors."""
    rows, pairs = np.maximum(recorded.rows[requests], 0), recorded.pairs[requests].copy()
    items = recorded.item_vectors[rows]
    pairs[:, :, recorded.similarity_column] = np.einsum("bkd,bd->bk", items, vectors)
    whole = np.concatenate([items, recorded.item_statistics[rows]], axis=2)
    return eager(unsplit_graph(recorded))(recorded.requests(requests, vectors), whole, pairs)


def overlap(ours: FloatArray, theirs: FloatArray) -> float:
    """Mean share of the 20 best columns (equal scores by column) that both have."""
    best = [np.argsort(-scores, axis=1, kind="stable")[:, :PAGE_SIZE] for scores in (ours, theirs)]
    shares = [len(np.intersect1d(a, b)) / len(b) for a, b in zip(*best, strict=True)]
    return float(np.mean(shares))


def _slices(count: int, size: int) -> list[slice]:
    return [slice(start, start + size) for start in range(0, count, size)]


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("step", choices=["prepare", "load"])
    parser.add_argument("workload")
    parser.add_argument("recorded", type=Path)
    parser.add_argument("part", type=Part)
    parser.add_argument("variant")
    parser.add_argument("directory", type=Path)
    asked = parser.parse_args()
    compute_on_one_thread()
    torch.set_num_interop_threads(1)
    variant = next(variant for variant in VARIANTS if variant.name == asked.variant)
    recorded = read(asked.workload, asked.recorded)
    step = prepare if asked.step == "prepare" else load
    try:
        print(json.dumps(step(variant, asked.part, recorded, asked.directory)))
    except Unavailable as error:
        print(json.dumps({"reason": str(error)}))


if __name__ == "__main__":
    main()
