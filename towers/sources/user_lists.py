"""User lists: the users most like the shopper are found through their common items, and what they have is summed.

The form of user-based filtering.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from towers.compiled import kernel
from towers.features.histories import FloatArray, Int32Array, Int64Array
from towers.sources.base import SourceInvalid, SourceRequest, checked
from towers.sources.item_lists import check_offsets, check_rows, lines_of
from towers.sources.profiles import profile_array, profile_of, profiles
from towers.sources.scored import ScoredItems, scratch
from towers.sources.settings import ProfileSettings

_INT32_MAX = 2**31 - 1


@dataclass(frozen=True, slots=True)
class UserLists:
    """What U users had to do with, both ways round; the work of a request is bounded by how long the lists are.

    A user's likeness to a shopper of profile p is Σ p_i · item_weight_i² over the items that both have, times
    user_scale, over the length of p · item_weight. An item's score is the sum, over those of the most similar users
    that have it, of their likeness to the power `limits[1]`, halved for every `limits[2]` places that the item lies
    from the common one of highest p in the user's list (0: never halved; Garg et al. 2019).

    Attributes:
        user_offsets: (U + 1,) int64; user `u` has `user_items[user_offsets[u]:user_offsets[u + 1]]`, newest first.
        user_items: (L,) int32 item rows.
        item_offsets: (n + 1,) int64; item `i` has `item_users[item_offsets[i]:item_offsets[i + 1]]`, newest first.
        item_users: (M,) int32.
        item_weight: (n,) float32, what a common item counts, 0 or more.
        user_scale: (U,) float32, what a user's sum of common items is multiplied by.
        limits: (3,) float64: how many similar users are summed, that power, and those places.
        profile: how a shopper's items are weighed.
    """

    user_offsets: Int64Array
    user_items: Int32Array
    item_offsets: Int64Array
    item_users: Int32Array
    item_weight: FloatArray
    user_scale: FloatArray
    limits: NDArray[np.float64]
    profile: ProfileSettings

    @property
    def item_count(self) -> int:
        """n."""
        return len(self.item_offsets) - 1

    def ask(self, request: SourceRequest) -> ScoredItems:
        """See `CandidateSource.ask`."""
        own = profiles(request.histories, self.profile, self.item_count)
        found = _ask(
            own.offsets,
            own.item_row,
            own.weight,
            self.user_offsets,
            self.user_items,
            self.item_offsets,
            self.item_users,
            self.item_weight,
            self.user_scale,
            int(self.limits[0]),
            float(self.limits[1]),
            float(self.limits[2]),
            scratch("own", self.item_count, np.float32),
            scratch("user_sums", len(self.user_scale), np.float32),
            scratch("sums", self.item_count, np.float32),
        )
        return ScoredItems(*found, self.item_count)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """See `CandidateSource.arrays`."""
        return {
            "user_offsets": self.user_offsets,
            "user_items": self.user_items,
            "item_offsets": self.item_offsets,
            "item_users": self.item_users,
            "item_weight": self.item_weight,
            "user_scale": self.user_scale,
            "limits": self.limits,
            "profile": profile_array(self.profile),
        }

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> Self:
        """See `CandidateSource.from_arrays`."""
        wanted = {
            "user_offsets": (np.int64, 1),
            "user_items": (np.int32, 1),
            "item_offsets": (np.int64, 1),
            "item_users": (np.int32, 1),
            "item_weight": (np.float32, 1),
            "user_scale": (np.float32, 1),
            "limits": (np.float64, 1),
            "profile": (np.float64, 1),
        }
        user_offsets, user_items, item_offsets, item_users, item_weight, user_scale, limits, profile = checked(
            arrays, wanted
        )
        check_offsets("user_offsets", user_offsets, len(user_items))
        check_offsets("item_offsets", item_offsets, len(item_users))
        check_rows("user_items", user_items, len(item_offsets) - 1)
        check_rows("item_users", item_users, len(user_offsets) - 1)
        for name, values, offsets in (
            ("item_weight", item_weight, item_offsets),
            ("user_scale", user_scale, user_offsets),
        ):
            if len(values) != len(offsets) - 1:
                raise SourceInvalid(f"array {name} has {len(values)} values for {len(offsets) - 1} lists")
            if len(values) and not (np.isfinite(values).all() and values.min() >= 0):
                raise SourceInvalid(f"array {name} holds what is not 0 or more")
        if len(limits) != 3 or not np.isfinite(limits).all() or not 1 <= limits[0] < 2**31 or limits.min() < 0:
            raise SourceInvalid(f"array limits is {limits.tolist()}; expected users, 1 or more, and two numbers from 0")
        return cls(
            user_offsets, user_items, item_offsets, item_users, item_weight, user_scale, limits, profile_of(profile)
        )

    def reordered(self, order: Int32Array, place: Int32Array) -> Self:
        """See `CandidateSource.reordered`; new rows that are no old ones have nobody."""
        item_offsets, taken = lines_of(self.item_offsets, order)
        known = order < self.item_count
        weight = np.where(known, self.item_weight[np.where(known, order, 0)], np.float32(0))
        return replace(
            self,
            user_items=place[self.user_items].astype(np.int32),
            item_offsets=item_offsets,
            item_users=self.item_users[taken],
            item_weight=weight.astype(np.float32),
        )


@kernel
def _ask(
    offsets: Int64Array,
    item_row: Int32Array,
    weight: FloatArray,
    user_offsets: Int64Array,
    user_items: Int32Array,
    item_offsets: Int64Array,
    item_users: Int32Array,
    item_weight: FloatArray,
    user_scale: FloatArray,
    neighbour_count: int,
    power: float,
    half_life: float,
    own_weight: FloatArray,
    user_sums: FloatArray,
    sums: FloatArray,
) -> tuple[Int64Array, Int32Array, FloatArray]:
    """The scored items of each profile; `own_weight` and `sums` (n,), `user_sums` (U,) are zeros before and after."""
    request_count, item_count = len(offsets) - 1, len(item_offsets) - 1
    rows, scores = np.empty(0, np.int32), np.empty(0, np.float32)
    out = np.zeros(request_count + 1, np.int64)
    end = 0
    for request in range(request_count):
        own = slice(offsets[request], offsets[request + 1])
        users, likeness = _most_alike(
            item_row[own], weight[own], item_offsets, item_users, item_weight, user_scale, neighbour_count, user_sums
        )
        room = 0
        for user in users:
            room += user_offsets[user + 1] - user_offsets[user]
        if end + min(room, item_count) > len(rows):
            rows, scores = _longer(rows, scores, end, end + min(room, item_count))
        begin = end
        for place in range(offsets[request], offsets[request + 1]):
            own_weight[item_row[place]] = weight[place]
        for place in range(len(users)):
            first, last = user_offsets[users[place]], user_offsets[users[place] + 1]
            common = _common(user_items[first:last], own_weight) if half_life > 0 else 0
            for at in range(first, last):
                row, counts = user_items[at], np.float32(likeness[place] ** power)
                if half_life > 0:
                    counts *= np.float32(0.5 ** (abs(at - first - common) / half_life))
                if counts == 0:
                    continue
                if sums[row] == 0:
                    rows[end] = row
                    end += 1
                sums[row] += counts
        for place in range(begin, end):
            scores[place] = sums[rows[place]]
            sums[rows[place]] = 0
        for place in range(offsets[request], offsets[request + 1]):
            own_weight[item_row[place]] = 0
        out[request + 1] = end
    return out, rows[:end], scores[:end]


@kernel
def _common(items: Int32Array, own_weight: FloatArray) -> int:
    """The place of the item that the shopper's profile weighs most; the first of equal ones, 0 where none is common."""
    best, heaviest = 0, np.float32(0)
    for place in range(len(items)):
        if own_weight[items[place]] > heaviest:
            best, heaviest = place, own_weight[items[place]]
    return best


@kernel
def _longer(rows: Int32Array, scores: FloatArray, end: int, needed: int) -> tuple[Int32Array, FloatArray]:
    """The first `end` values, with room for at least `needed`."""
    room = max(needed, 2 * len(rows))
    more_rows, more_scores = np.empty(room, np.int32), np.empty(room, np.float32)
    more_rows[:end], more_scores[:end] = rows[:end], scores[:end]
    return more_rows, more_scores


@kernel
def _most_alike(
    item_row: Int32Array,
    weight: FloatArray,
    item_offsets: Int64Array,
    item_users: Int32Array,
    item_weight: FloatArray,
    user_scale: FloatArray,
    neighbour_count: int,
    user_sums: FloatArray,
) -> tuple[Int32Array, FloatArray]:
    """The users of most likeness to one profile, best first, and their likeness; of equal ones the lowest rows."""
    room, length = 0, 0.0
    for place in range(len(item_row)):
        room += item_offsets[item_row[place] + 1] - item_offsets[item_row[place]]
        length += (np.float64(weight[place]) * item_weight[item_row[place]]) ** 2
    room = min(room, len(user_sums))
    users, keys = np.empty(room, np.int32), np.empty(room, np.int64)
    likeness = np.empty(room, np.float32)
    bits = likeness.view(np.int32)  # of numbers that are not negative these ascend as the numbers do
    count = 0
    scale = np.float32(1 / np.sqrt(length)) if length > 0 else np.float32(0)
    for place in range(len(item_row)):
        counts = weight[place] * item_weight[item_row[place]] ** 2
        if counts == 0:
            continue
        for at in range(item_offsets[item_row[place]], item_offsets[item_row[place] + 1]):
            user = item_users[at]
            if user_sums[user] == 0:
                users[count] = user
                count += 1
            user_sums[user] += counts
    for place in range(count):
        user = users[place]
        likeness[place] = user_sums[user] * user_scale[user] * scale
        user_sums[user] = 0
        keys[place] = (np.int64(_INT32_MAX - bits[place]) << 32) | user
    best = keys[:count]
    if count > neighbour_count:
        best = np.partition(best, neighbour_count - 1)[:neighbour_count]
    best.sort()
    for place in range(len(best)):
        users[place] = best[place] & _INT32_MAX
        bits[place] = _INT32_MAX - (best[place] >> 32)
    return users[: len(best)], likeness[: len(best)]
