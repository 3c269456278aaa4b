"""What the further sources bring, merged into the candidates: rows with the bits of their sources, scores and ranks."""

from __future__ import annotations

import numpy as np

from towers.candidates import (
    SOURCE_BITS,
    TWO_TOWER,
    Brought,
    Candidates,
    Exclusions,
    ItemTable,
    SourceBits,
    read_only,
)
from towers.compiled import kernel
from towers.features.histories import FloatArray, Int32Array, Int64Array
from towers.retrieval import Allowed
from towers.settings import CandidateSettings
from towers.sources.base import Shown, SourceRequest
from towers.sources.factors import AskedVectors
from towers.sources.settings import FURTHER

FURTHER_BITS = {name: 1 << (len(SOURCE_BITS) + place) for place, name in enumerate(FURTHER)}
"""The bits of the further sources (towers/sources/)."""
_ALL_BIT_COUNT = len(SOURCE_BITS) + len(FURTHER)
_ALL_MASK = (1 << _ALL_BIT_COUNT) - 1
_NO_MASKS = np.zeros((0, 0), np.bool_)


def with_further(
    candidates: Candidates,
    user_vectors: FloatArray,
    request: SourceRequest,
    items: ItemTable,
    settings: CandidateSettings,
    exclusions: Exclusions,
    allowed: Allowed | None = None,
) -> Candidates:
    """The candidates and what the further sources of the item table bring, each to the depth that `settings` says.

    Where there are further sources, the two towers (B, D) stand before them with score and rank.
    """
    if not items.sources:
        return candidates
    request_count = len(candidates.rows)
    shown = Shown(
        read_only(items.retrievable),
        exclusions.offsets,
        exclusions.rows,
        _NO_MASKS if allowed is None else np.stack([confined.rows for confined in allowed.filters]),
        np.full(request_count, -1, np.int64) if allowed is None else allowed.of_request,
    )
    further = []
    for name, source in items.sources.items():
        depth = int(getattr(settings, name))
        asked = source.ask(request) if depth else None
        rows = np.full((request_count, 0), -1, np.int32) if asked is None else asked.best(depth, shown)
        further.append(Brought(name, asked, rows))
    near = Brought(
        "two_tower",
        AskedVectors(user_vectors, items.vectors, np.ones(request_count, np.bool_)),
        _nearest_first(candidates, user_vectors, items.vectors),
    )
    bits = np.concatenate([np.full(part.rows.shape[1], FURTHER_BITS[part.name], np.int64) for part in further])
    brought = np.concatenate([part.rows for part in further], axis=1)
    rows, sources, width = _join(candidates.rows, candidates.sources, brought, bits)
    return Candidates(np.ascontiguousarray(rows[:, :width]), np.ascontiguousarray(sources[:, :width]), (near, *further))


def _nearest_first(candidates: Candidates, user_vectors: FloatArray, item_vectors: FloatArray) -> Int32Array:
    """(B, k) the rows that the two towers brought, the most similar first, -1 pads."""
    brought = (candidates.sources & TWO_TOWER) != 0
    similarity = np.full(brought.shape, -np.inf, np.float32)
    request, column = np.nonzero(brought)
    rows = candidates.rows[request, column]
    similarity[request, column] = np.einsum("pd,pd->p", user_vectors[request], item_vectors[rows])
    order = np.argsort(-similarity, axis=1, kind="stable")[:, : int(brought.sum(axis=1).max(initial=0))]
    near = np.where(np.take_along_axis(brought, order, axis=1), np.take_along_axis(candidates.rows, order, axis=1), -1)
    return np.ascontiguousarray(near, np.int32)


@kernel
def _join(
    rows: Int32Array, sources: SourceBits, brought: Int32Array, bits: Int64Array
) -> tuple[Int32Array, SourceBits, int]:
    """`rows` (B, K) and `brought` (B, F) merged as in `_merge`; `bits` (F,) say which source each column is of."""
    request_count, room = len(rows), rows.shape[1] + brought.shape[1]
    all_rows = np.full((request_count, room), -1, np.int32)
    all_sources = np.zeros((request_count, room), np.uint32)
    keys = np.empty(room, np.int64)
    width = 0
    for request in range(request_count):
        end = 0
        for column in range(rows.shape[1]):
            if rows[request, column] >= 0:
                keys[end] = (np.int64(rows[request, column]) << _ALL_BIT_COUNT) | np.int64(sources[request, column])
                end += 1
        for column in range(brought.shape[1]):
            if brought[request, column] >= 0:
                keys[end] = (np.int64(brought[request, column]) << _ALL_BIT_COUNT) | bits[column]
                end += 1
        keys[:end].sort()
        filled = 0
        for place in range(end):
            row = keys[place] >> _ALL_BIT_COUNT
            if filled == 0 or all_rows[request, filled - 1] != row:
                all_rows[request, filled] = row
                filled += 1
            all_sources[request, filled - 1] |= np.uint32(keys[place] & _ALL_MASK)
        width = max(width, filled)
    return all_rows, all_sources, width
