"""The loops of a search for allowed items alone in inverted lists of int8 blocks.

Lists are walked from the best centroid on until enough allowed items have been scored, however many lists that takes:
a filter that lets one item in twenty through looks into twenty times as many lists, and one whose items lie in a few
lists looks until it has come by these. A block without an allowed item is not scored.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from index.compiled import kernel
from index.int8_blocks import BLOCK_SIZE, TAIL_SIZE
from index.int8_dot import prefetch_block, quantise, score_block
from index.int8_kernels import ordered

_BIN_COUNT = 1_024
"""Bins that lists are ordered by: the best, of which the order matters, are alone in theirs, or nearly."""


@kernel
def search_allowed_lists(
    queries: Any, allowed: Any, scored_min: Any, probe_count_min: Any, centroids: Any, lists: Any, list_ids: Any,
    begins: Any, sizes: Any, scores: Any, rows: Any,
) -> None:  # fmt: skip
    """Writes the best allowed items of queries (B, D) to scores (B, k) float32, descending, and rows (B, k) int64.

    `allowed` (n,) bool. Looks into `probe_count_min` lists and then until `scored_min` items have been scored. The
    lists are as in `search_lists`. Places that no item fills stay as they are.
    """
    width = lists.shape[1] // BLOCK_SIZE - TAIL_SIZE
    codes = np.empty(width, np.int16)
    centroid_scores = np.empty(len(centroids) * BLOCK_SIZE, np.float32)
    order, bins = np.empty(len(sizes), np.int32), np.empty(_BIN_COUNT + 1, np.int32)
    most_scored = max(scored_min, probe_count_min * sizes.max()) + sizes.max()
    keys = np.empty(min(len(allowed), most_scored) + 1, np.int64)  # one more is written to and not kept
    found = np.empty(BLOCK_SIZE, np.float32)
    bits = found.view(np.int32)
    id_column = list_ids.shape[1] - BLOCK_SIZE
    for at in range(len(queries)):
        scale = quantise(queries[at], codes)
        for block in range(len(centroids)):
            score_block(centroids, block, codes, centroid_scores, block * BLOCK_SIZE)
        _order_lists(centroid_scores[: len(sizes)], order, bins)
        count = 0
        for probe in range(len(order)):
            if count >= scored_min and probe >= probe_count_min:
                break
            this = order[probe]
            ahead = order[min(probe + 1, len(order) - 1)]
            blocks_ahead = (sizes[ahead] + BLOCK_SIZE - 1) // BLOCK_SIZE
            for step in range((sizes[this] + BLOCK_SIZE - 1) // BLOCK_SIZE):
                if step < blocks_ahead:
                    prefetch_block(lists, begins[ahead] + step)
                block = begins[this] + step
                filled = min(BLOCK_SIZE, sizes[this] - step * BLOCK_SIZE)
                some = False
                for place in range(filled):
                    some |= allowed[list_ids[block, id_column + place]]
                if some:
                    score_block(lists, block, codes, found, 0)
                    for place in range(filled):
                        row = list_ids[block, id_column + place]
                        keys[count] = -(np.int64(ordered(bits[place])) << 32) + row
                        count += 1 if allowed[row] else 0
        _write_best(keys[:count], scale, scores[at], rows[at])


@kernel
def _order_lists(scores: Any, order: Any, bins: Any) -> None:
    """All lists into order (L,), best centroids first, by a counting sort over bins of their scores."""
    most, least = scores[0], scores[0]
    for at in range(len(scores)):
        most, least = max(most, scores[at]), min(least, scores[at])
    last_bin = np.float32(_BIN_COUNT - 1)
    factor = last_bin / (most - least) if most > least else np.float32(0)
    bins[:] = 0
    for at in range(len(scores)):
        bins[np.int32(min((most - scores[at]) * factor, last_bin)) + 1] += 1
    for bin_at in range(_BIN_COUNT):
        bins[bin_at + 1] += bins[bin_at]
    for at in range(len(scores)):
        place = np.int32(min((most - scores[at]) * factor, last_bin))
        order[bins[place]] = at
        bins[place] += 1


@kernel
def _write_best(keys: Any, scale: Any, scores: Any, rows: Any) -> None:
    """The k lowest keys, ascending, as scores and rows."""
    taken = min(len(keys), len(scores))
    if len(keys) > taken > 0:
        keys = np.partition(keys, taken - 1)[:taken]
    best = np.sort(keys)
    score_bits = scores.view(np.int32)
    for place in range(taken):
        rows[place] = best[place] & 0xFFFFFFFF
        score_bits[place] = ordered(-(best[place] >> 32))
        scores[place] *= scale
