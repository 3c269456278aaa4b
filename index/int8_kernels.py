"""The loops of a search in inverted lists of int8 blocks, compiled: choose the lists, score them, keep the k best."""

from __future__ import annotations

from typing import Any

import numpy as np

from index.compiled import kernel
from index.int8_blocks import BLOCK_SIZE, TAIL_SIZE
from index.int8_dot import prefetch_block, quantise, score_block

BIN_COUNT = 512
"""Bins of the counting sort: with some thousands of scores a bin of the best holds one or two."""
_INSERTION_MAX = 32
"""A larger bin, such as one of equal scores, is sorted by the library."""


@kernel
def search_lists(
    queries: Any, probe_count: Any, centroids: Any, lists: Any, list_ids: Any, begins: Any, sizes: Any, scores: Any,
    rows: Any,
) -> None:  # fmt: skip
    """Writes the best items of queries (B, D), B ≥ 1, to scores (B, k) float32, descending, and rows (B, k) int64.

    `centroids`, `lists`: blocks (·, bytes of a block) uint8; `list_ids`: the lists as int32. `begins` (L,): the first
    block of each list. `sizes` (L,): how many items it holds. Places that no item fills stay as they are.
    """
    query_count, width = len(queries), lists.shape[1] // BLOCK_SIZE - TAIL_SIZE
    codes, scales = np.empty((query_count, width), np.int16), np.empty(query_count, np.float32)
    chosen = np.empty((query_count + 1, probe_count), np.int32)
    chosen_scores = np.empty(probe_count, np.float32)
    centroid_scores, block_best = (
        np.empty(len(centroids) * BLOCK_SIZE, np.float32),
        np.empty(len(centroids), np.float32),
    )
    total_max = 0
    for at in range(query_count):
        scales[at] = quantise(queries[at], codes[at])
        for block in range(len(centroids)):
            block_best[block] = score_block(centroids, block, codes[at], centroid_scores, block * BLOCK_SIZE)
        _choose_lists(centroid_scores, block_best, len(sizes), chosen[at], chosen_scores)
        total = 0
        for probe in range(probe_count):
            total += sizes[chosen[at, probe]]
        total_max = max(total_max, total)
    chosen[query_count] = chosen[query_count - 1]  # what the last list is followed by; it need not be fetched again
    found, keys = np.empty(total_max + BLOCK_SIZE, np.float32), np.empty(total_max, np.int64)
    bins = np.empty(BIN_COUNT + 1, np.int32)
    for at in range(query_count):
        total = 0
        least, most = np.float32(np.inf), np.float32(-np.inf)
        for probe in range(probe_count):
            this = chosen[at, probe]
            then = chosen[at, probe + 1] if probe + 1 < probe_count else chosen[at + 1, 0]
            blocks_ahead = (sizes[then] + BLOCK_SIZE - 1) // BLOCK_SIZE
            for step in range((sizes[this] + BLOCK_SIZE - 1) // BLOCK_SIZE):
                if step < blocks_ahead:
                    prefetch_block(lists, begins[then] + step)
                best = score_block(lists, begins[this] + step, codes[at], found, total + step * BLOCK_SIZE)
                least, most = min(least, best), max(most, best)
            total += sizes[this]  # the next list overwrites what the last block was filled up with
        _keep_best(
            found[:total],
            least,
            most,
            chosen[at],
            sizes,
            begins,
            list_ids,
            scales[at],
            bins,
            keys,
            scores[at],
            rows[at],
        )


@kernel
def _choose_lists(scores: Any, block_best: Any, list_count: Any, chosen: Any, chosen_scores: Any) -> None:
    """The lists with the best centroids into chosen (P,), best first, ties to the lower list."""
    probe_count, count = len(chosen), 0
    least = np.float32(-np.inf)
    for block in range(len(block_best)):
        if count == probe_count and block_best[block] <= least:
            continue
        for at in range(block * BLOCK_SIZE, min((block + 1) * BLOCK_SIZE, list_count)):
            score = scores[at]
            if count == probe_count and score <= least:
                continue
            place = min(count, probe_count - 1)
            while place > 0 and chosen_scores[place - 1] < score:
                chosen_scores[place], chosen[place] = chosen_scores[place - 1], chosen[place - 1]
                place -= 1
            chosen_scores[place], chosen[place] = score, at
            count = min(count + 1, probe_count)
            least = chosen_scores[probe_count - 1]


@kernel
def _keep_best(
    found: Any, least: Any, most: Any, chosen: Any, sizes: Any, begins: Any, list_ids: Any, scale: Any, bins: Any,
    keys: Any, scores: Any, rows: Any,
) -> None:  # fmt: skip
    """The k best of `found`, the scores of all items of the chosen lists; ties to the lower row.

    A counting sort over bins from `most` down to `least`, of as many bins as hold k items, then a sort inside each.
    `least` need not be the smallest score: what is below counts for the last bin.
    """
    factor, end = _begins(found, least, most, len(scores), bins)
    kept = bins[end]
    bits = found.view(np.int32)
    id_column = list_ids.shape[1] - BLOCK_SIZE
    at = 0
    for list_at in chosen:
        for place in range(sizes[list_at]):
            bin_at = _bin(found[at], most, factor)
            if bin_at < end:
                row = list_ids[begins[list_at] + place // BLOCK_SIZE, id_column + place % BLOCK_SIZE]
                keys[bins[bin_at]] = -(np.int64(ordered(bits[at])) << 32) + row
                bins[bin_at] += 1
            at += 1
    _sort_inside(keys, bins, end)
    score_bits = scores.view(np.int32)
    for place in range(min(kept, len(scores))):
        rows[place] = keys[place] & 0xFFFFFFFF
        score_bits[place] = ordered(-(keys[place] >> 32))
        scores[place] *= scale


@kernel
def best_of(found: Any, ids: Any, bins: Any, keys: Any, scores: Any, rows: Any) -> None:
    """The k best of `found` to scores (k,), descending, and their `ids` to rows (k,); ties to the lower id.

    As `_keep_best`, of scores that are all worth a bin. `bins` (·,) and `keys` (len(found),) are overwritten.
    """
    least, most = span(found)
    factor, end = _begins(found, least, most, len(scores), bins)
    bits = found.view(np.int32)
    for at in range(len(found)):
        bin_at = _bin(found[at], most, factor)
        if bin_at < end:
            keys[bins[bin_at]] = -(np.int64(ordered(bits[at])) << 32) + ids[at]
            bins[bin_at] += 1
    _sort_inside(keys, bins, end)
    score_bits = scores.view(np.int32)
    for place in range(len(scores)):
        rows[place] = keys[place] & 0xFFFFFFFF
        score_bits[place] = ordered(-(keys[place] >> 32))


@kernel
def _begins(found: Any, least: Any, most: Any, k: Any, bins: Any) -> Any:
    """Into bins (BIN_COUNT + 1,) where each bin of `found` begins; bins a score, and how many of them hold k or all."""
    factor = np.float32(BIN_COUNT - 1) / (most - least) if most > least else np.float32(0)
    bins[:] = 0
    for score in found:
        bins[_bin(score, most, factor) + 1] += 1
    end = 0
    while end < BIN_COUNT and bins[end] < k:
        bins[end + 1] += bins[end]
        end += 1
    return factor, end


@kernel
def _bin(score: Any, most: Any, factor: Any) -> Any:
    return np.int32(min((most - score) * factor, np.float32(BIN_COUNT - 1)))


@kernel
def span(scores: Any) -> Any:
    """The smallest and the largest of scores (n,), n ≥ 1; four chains side by side, since each waits for itself."""
    low0 = low1 = low2 = low3 = high0 = high1 = high2 = high3 = scores[0]
    whole = len(scores) // 4 * 4
    for at in range(0, whole, 4):
        low0, high0 = min(low0, scores[at]), max(high0, scores[at])
        low1, high1 = min(low1, scores[at + 1]), max(high1, scores[at + 1])
        low2, high2 = min(low2, scores[at + 2]), max(high2, scores[at + 2])
        low3, high3 = min(low3, scores[at + 3]), max(high3, scores[at + 3])
    for at in range(whole, len(scores)):
        low0, high0 = min(low0, scores[at]), max(high0, scores[at])
    return min(min(low0, low1), min(low2, low3)), max(max(high0, high1), max(high2, high3))


@kernel
def ordered(bits: Any) -> Any:
    """A float32's bits as an integer that is ordered as the float is; applied twice, the bits again."""
    return bits ^ ((bits >> 31) & 0x7FFFFFFF)


@kernel
def _sort_inside(keys: Any, ends: Any, bin_count: Any) -> None:
    """Sorts the keys of each bin, which ends where `ends` says."""
    begin = 0
    for bin_at in range(bin_count):
        end = ends[bin_at]
        if end - begin > _INSERTION_MAX:
            keys[begin:end].sort()
        for at in range(begin + 1, end):
            key, place = keys[at], at
            while place > begin and keys[place - 1] > key:
                keys[place] = keys[place - 1]
                place -= 1
            keys[place] = key
        begin = end
