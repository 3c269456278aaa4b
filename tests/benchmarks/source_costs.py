"""What each further source costs a request, on the demo's shop at its default settings and the depth of the two towers.

`python -m tests.benchmarks.source_costs`; the last line is JSON: CPU µs a request in batches of 32, of finding the best
and of scoring as many candidates as a request has, on one thread; seconds to fit; megabytes in a generation. What
leaving a source out costs in NDCG says `python -m towers report` (docs/quality.md).
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Iterator

import numpy as np

from tests.benchmarks.workloads import SHOP_CONFIG
from towers.learning_data import LearningData, encode, fit_encoders
from towers.schema import load_dataset, read_shop_config
from towers.sources.base import CandidateSource, Shown, SourceRequest
from towers.sources.log import SourceLog
from towers.sources.registry import KINDS, NAMES, source_arrays
from towers.sources.settings import SourceSettings

BATCH_SIZE = 32
BATCHES = 60
DEPTH = 100
CANDIDATES = 256
SEED = 17


def requests(data: LearningData, as_of_s: int, events_max: int) -> Iterator[SourceRequest]:
    """Batches of random users as of one moment."""
    random = np.random.default_rng(SEED)
    for _ in range(BATCHES):
        users = random.integers(0, data.histories.user_count, BATCH_SIZE).astype(np.int32)
        histories = data.histories.batch(users, np.full(BATCH_SIZE, as_of_s, np.int64), events_max)
        yield SourceRequest(histories, data.users.attribute[users])


def request_us(source: CandidateSource, asked: list[SourceRequest]) -> float:
    """CPU µs a request, the median over batches."""
    count = source.item_count
    random = np.random.default_rng(SEED)
    rows = random.integers(0, count, (BATCH_SIZE, CANDIDATES)).astype(np.int32)
    no_offsets, no_rows = np.zeros(BATCH_SIZE + 1, np.int64), np.zeros(0, np.int32)
    no_masks, no_mask = np.zeros((0, 0), np.bool_), np.full(BATCH_SIZE, -1, np.int64)
    shown = Shown(np.ones(count, np.bool_), no_offsets, no_rows, no_masks, no_mask)
    took_s = []
    for request in asked:
        began_s = time.thread_time()
        answer = source.ask(request)
        answer.best(DEPTH, shown)
        answer.write_scores(rows, np.zeros(rows.shape, np.float32))
        took_s.append(time.thread_time() - began_s)
    return statistics.median(took_s) / BATCH_SIZE * 1e6


def main() -> None:
    """The command."""
    shop = read_shop_config(SHOP_CONFIG)
    dataset = load_dataset(shop.dataset_dir)
    assert shop.training.train_end is not None
    as_of_s = int(shop.training.train_end.timestamp())
    data = encode(dataset, fit_encoders(dataset, shop.learning, as_of_s), shop.learning, as_of_s)
    log = SourceLog.of(data, as_of_s)
    asked = list(requests(data, as_of_s, shop.learning.features.history_events_max))
    figures: dict[str, dict[str, float]] = {}
    for name in NAMES:
        began_s = time.perf_counter()
        source = KINDS[name].fit(log, SourceSettings(), SEED)
        fit_s = time.perf_counter() - began_s
        request_us(source, asked[:2])  # compiles
        size = sum(array.nbytes for array in source_arrays({name: source}).values())
        figures[name] = {
            "us": round(request_us(source, asked), 1),
            "fit_s": round(fit_s, 1),
            "mb": round(size / 1e6, 1),
        }
        print(f"{name:<16} {figures[name]['us']:>8.1f} µs {fit_s:>6.1f} s {size / 1e6:>6.1f} MB", flush=True)
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
