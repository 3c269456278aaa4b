"""What each form of source answers, in plain dense numpy of its arrays: the oracle of the contract."""

from __future__ import annotations

from functools import singledispatch

import numpy as np

from towers.sources.base import CandidateSource, SourceRequest
from towers.sources.factors import ItemFactors
from towers.sources.fixed_lists import FixedLists
from towers.sources.folded_factors import FoldedFactors
from towers.sources.item_lists import ItemLists
from towers.sources.settings import ProfileSettings
from towers.sources.user_lists import UserLists


@singledispatch
def dense_scores(source: CandidateSource, request: SourceRequest) -> np.ndarray:
    """(B, n) float64 scores, 0 where there is none."""
    raise NotImplementedError(f"no oracle for {type(source).__name__}")


def profile_weights(request: SourceRequest, profile: ProfileSettings, item_count: int) -> np.ndarray:
    """(B, n) the weight of each item in the shoppers' profiles."""
    histories = request.histories
    weights = np.zeros((len(histories), item_count))
    for place in range(len(histories)):
        taken: dict[int, int] = {}  # row → when
        for event in reversed(range(histories.offsets[place], histories.offsets[place + 1])):
            row, time_s = int(histories.item_row[event]), int(histories.time_s[event])
            if row < item_count and row not in taken and len(taken) < profile.items_max:
                halvings = 0.0
                if profile.half_life_items:
                    halvings += sum(later > time_s for later in taken.values()) / profile.half_life_items
                if profile.half_life_days:
                    age_days = max(histories.as_of_s[place] - time_s, 0) / 86_400
                    halvings += age_days / profile.half_life_days
                weights[place, row] = max(0.5**halvings, 1e-6)
                taken[row] = time_s
    return weights


@dense_scores.register
def _(source: ItemLists, request: SourceRequest) -> np.ndarray:
    matrix = np.zeros((source.item_count, source.item_count))
    for item in range(source.item_count):
        for place in range(source.offsets[item], source.offsets[item + 1]):
            matrix[item, source.rows[place]] += source.weights[place]
    return profile_weights(request, source.profile, source.item_count) @ matrix


@dense_scores.register
def _(source: ItemFactors, request: SourceRequest) -> np.ndarray:
    own = profile_weights(request, source.profile, source.item_count)
    return np.maximum(own @ source.brings.astype(np.float64) @ source.items.astype(np.float64).T, 0)


@dense_scores.register
def _(source: FoldedFactors, request: SourceRequest) -> np.ndarray:
    histories, profile, items = request.histories, source.fold_in.profile, source.items.astype(np.float64)
    confidence = profile_weights(request, profile, source.item_count) * source.fold_in.confidence
    scores = np.zeros(confidence.shape)
    for place, c in enumerate(confidence):
        span = slice(histories.offsets[place], histories.offsets[place + 1])
        rows, age_days = histories.item_row[span], (histories.as_of_s[place] - histories.time_s[span]) / 86_400
        for item in np.flatnonzero(c) if source.fold_in.counts else ():
            ages = age_days[rows == item]
            half_lives = (ages - ages.min()) / profile.half_life_days if profile.half_life_days else 0 * ages
            c[item] *= (0.5**half_lives).sum()
        vector = np.linalg.solve(source.gram + (items.T * c) @ items, items.T @ np.where(c > 0, 1 + c, 0))
        scores[place] = np.maximum(items @ vector, 0)
    return scores


@dense_scores.register
def _(source: FixedLists, request: SourceRequest) -> np.ndarray:
    scores = np.zeros((len(request.histories), source.item_count))
    segments = [tuple(line) for line in source.codes.tolist()]
    for place, attribute in enumerate(request.attribute):
        own = tuple(attribute[source.columns].tolist())
        chosen = 1 + segments.index(own) if own in segments else 0
        span = slice(source.offsets[chosen], source.offsets[chosen + 1])
        scores[place, source.rows[span]] = source.weights[span]
    return scores


@dense_scores.register
def _(source: UserLists, request: SourceRequest) -> np.ndarray:
    own = profile_weights(request, source.profile, source.item_count)
    user_count = len(source.user_scale)
    known, has = np.zeros((source.item_count, user_count)), np.zeros((user_count, source.item_count))
    for item in range(source.item_count):
        known[item, source.item_users[source.item_offsets[item] : source.item_offsets[item + 1]]] = 1
    for user in range(user_count):
        has[user, source.user_items[source.user_offsets[user] : source.user_offsets[user + 1]]] = 1
    weight = source.item_weight.astype(np.float64)
    length = np.linalg.norm(own * weight, axis=1, keepdims=True)
    likeness = (own * weight**2) @ known * source.user_scale / np.maximum(length, 1e-30)  # (B, U)
    kept = int(source.limits[0])
    counts = np.zeros_like(likeness)
    for place, line in enumerate(likeness):
        best = np.argsort(-line.astype(np.float32), kind="stable")[:kept]
        best = best[line[best] > 0]
        counts[place, best] = line[best] ** source.limits[1]
    scores = counts @ has
    if source.limits[2] > 0:
        scores = np.array([_near(source, *line) for line in zip(own, counts, strict=True)])
    return scores


def _near(source: UserLists, own: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """(n,) the sums of one shopper, items counting by their place beside the common one of highest weight."""
    scores = np.zeros(source.item_count)
    for user in np.flatnonzero(counts):
        items = source.user_items[source.user_offsets[user] : source.user_offsets[user + 1]]
        distance = np.abs(np.arange(len(items)) - np.argmax(own[items])) if len(items) else np.zeros(0)
        scores[items] += counts[user] * 0.5 ** (distance / source.limits[2])
    return scores
