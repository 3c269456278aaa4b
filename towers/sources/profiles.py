"""A shopper's profile: the distinct items of the newest events, each with a weight by how new it is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from towers.compiled import kernel
from towers.features.histories import FloatArray, HistoryBatch, Int32Array, Int64Array
from towers.sources.base import SourceInvalid
from towers.sources.scored import scratch
from towers.sources.settings import ProfileSettings


@dataclass(frozen=True, slots=True)
class Profiles:
    """CSR of B requests: `offsets` (B + 1,), item rows (P,) newest first, weights (P,) float32 in (0, 1]."""

    offsets: Int64Array
    item_row: Int32Array
    weight: FloatArray


def profile_array(profile: ProfileSettings) -> NDArray[np.float64]:
    """The settings as a generation keeps them."""
    return np.array([profile.items_max, profile.half_life_items, profile.half_life_days], np.float64)


def profile_of(array: NDArray[Any]) -> ProfileSettings:
    """From `profile_array`. Raises SourceInvalid."""
    if len(array) != 3:
        raise SourceInvalid(f"array profile has {len(array)} values, not 3")
    try:
        return ProfileSettings(items_max=int(array[0]), half_life_items=float(array[1]), half_life_days=float(array[2]))
    except (ValueError, OverflowError) as error:
        raise SourceInvalid(f"array profile: {error}") from error


def profiles(histories: HistoryBatch, settings: ProfileSettings, item_count: int) -> Profiles:
    """The profiles of a batch; an item that came several times counts when it came last. Rows ≥ item_count: none.

    Items of one moment weigh the same: how many items came after it is what `half_life_items` counts.
    """
    seen = scratch("seen", item_count, np.bool_)
    return Profiles(
        *_profiles(
            histories.offsets,
            histories.item_row,
            histories.time_s,
            histories.age_days,
            item_count,
            settings.items_max,
            settings.half_life_items,
            settings.half_life_days,
            seen,
        )
    )


@kernel
def _profiles(
    offsets: Int64Array,
    item_row: Int32Array,
    time_s: Int64Array,
    age_days: FloatArray,
    item_count: int,
    items_max: int,
    half_life_items: float,
    half_life_days: float,
    seen: np.ndarray,
) -> tuple[Int64Array, Int32Array, FloatArray]:
    request_count = len(offsets) - 1
    room = 0
    for request in range(request_count):
        room += min(items_max, offsets[request + 1] - offsets[request])
    rows, weights = np.empty(room, np.int32), np.empty(room, np.float32)
    out = np.zeros(request_count + 1, np.int64)
    end = 0
    for request in range(request_count):
        begin, newer, moment_s = end, 0, np.int64(0)
        for event in range(offsets[request + 1] - 1, offsets[request] - 1, -1):
            if end - begin == items_max:
                break
            row = item_row[event]
            if row >= item_count or seen[row]:
                continue
            seen[row] = True
            if end == begin or time_s[event] != moment_s:
                newer, moment_s = end - begin, time_s[event]
            exponent = 0.0
            if half_life_items > 0:
                exponent += newer / half_life_items
            if half_life_days > 0:
                exponent += age_days[event] / half_life_days
            rows[end], weights[end] = row, max(0.5**exponent, 1e-6)
            end += 1
        for place in range(begin, end):
            seen[rows[place]] = False
        out[request + 1] = end
    return out, rows[:end], weights[:end]
