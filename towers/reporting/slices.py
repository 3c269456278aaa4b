"""Slices: the same metrics for parts of the users, and for parts of what they bought.

A slice of users averages over its users. A slice of items keeps all lists as they are and counts only the items of
the slice as right, over the users who bought one: what a list is worth to somebody who wants just these.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from towers.evaluation import Bootstrap, EvaluationSet, per_user_metrics
from towers.evaluation.metrics import FloatArray, IntArray, SparseRows
from towers.features.histories import BoolArray

FEW_USERS = 30
"""Below it a slice's interval is too wide to say much, and the report marks it."""

HISTORY_GROUPS = 5
QUARTILES = 4
DECILES = 10
VALUES_MAX = 12
OTHER = "all others"


@dataclass(frozen=True, eq=False)
class Slicing:
    """One way to divide.

    Attributes:
        name: what it divides by, in words.
        of: "users", or "items" for what was bought.
        groups: names, in the order of the table.
        group_of: users: (U,) group of each user asked. Items: one group for each stored entry of `relevant`, in its
            order. -1: in no group.
    """

    name: str
    of: str
    groups: tuple[str, ...]
    group_of: NDArray[np.int64]


def by_history_length(events_before: IntArray) -> Slicing:
    """(U,) events before the moment → about equally large groups of users."""
    edges = _edges(events_before, HISTORY_GROUPS)
    group_of = np.searchsorted(edges, events_before, side="left").astype(np.int64)
    groups = []
    for group in range(len(edges) + 1):
        inside = events_before[group_of == group]
        groups.append(_span(int(inside.min()), int(inside.max())))
    return Slicing("events before", "users", tuple(groups), group_of)


def by_user_attribute(name: str, values: pl.Series) -> Slicing:
    """(U,) the users' values: those most frequent first; numbers in quartiles."""
    if values.dtype.is_numeric():
        return Slicing(name, "users", *_quartiles(values.to_numpy()))
    return Slicing(name, "users", *_most_frequent(values.to_list(), np.ones(len(values))))


def by_popularity(asked: EvaluationSet, item_users: NDArray[np.int64]) -> Slicing:
    """Tenths of the candidate items, the first holding the most popular ones."""
    decile_of = popularity_deciles(asked.candidate_rows, item_users)
    groups = tuple(f"{place + 1}. tenth" for place in range(DECILES))
    return Slicing("popularity of the item", "items", groups, decile_of[asked.relevant.indices])


def by_item_attribute(asked: EvaluationSet, name: str, values: pl.Series) -> Slicing:
    """(item_count,) the items' values: those bought most first; numbers in quartiles."""
    bought = asked.relevant.indices
    if values.dtype.is_numeric():
        groups, group_of = _quartiles(values.to_numpy()[bought])
    else:
        groups, group_of = _most_frequent(values.gather(bought).to_list(), np.ones(len(bought)))
    return Slicing(name, "items", groups, group_of)


def by_novelty(asked: EvaluationSet) -> Slicing:
    """Whether the user had bought the item before."""
    user = np.repeat(np.arange(asked.user_count), np.diff(asked.relevant.indptr))
    repeated = _is_in(asked.bought, user, asked.relevant.indices)
    return Slicing("new or again", "items", ("bought again", "new to the user"), np.where(repeated, 0, 1))


def popularity_deciles(candidate_rows: NDArray[np.int32], item_users: NDArray[np.int64]) -> NDArray[np.int64]:
    """(item_count,) tenth of each candidate, 0 the most popular, ties by row; -1 for other items."""
    order = candidate_rows[np.lexsort((candidate_rows, -item_users[candidate_rows]))]
    decile_of = np.full(len(item_users), -1, np.int64)
    decile_of[order] = np.arange(len(order)) * DECILES // max(len(order), 1)
    return decile_of


def measure(
    slicing: Slicing,
    asked: EvaluationSet,
    model: IntArray,
    baseline: IntArray,
    k: int,
    bootstrap: Bootstrap = Bootstrap(),
) -> list[dict[str, Any]]:
    """One row a group: users, purchases, NDCG and recall of the model with intervals, the baseline's NDCG, the lead.

    Args:
        slicing: see Slicing.
        asked: who is asked and what is right.
        model, baseline: rankings (U, K).
        k: the cutoff.
        bootstrap: how intervals are drawn.
    """
    rows = []
    for group, name in enumerate(slicing.groups):
        users, relevant = _part(slicing, group, asked)
        row: dict[str, Any] = {"group": name, "users": len(users), "purchases": int(relevant.nnz)}
        if len(users):
            ours = per_user_metrics(model[users], relevant, (k,))
            theirs = per_user_metrics(baseline[users], relevant, (k,))
            row |= _figures(ours, theirs, k, bootstrap) | {"few": len(users) < FEW_USERS}
        else:
            row["note"] = "nobody"
        rows.append(row)
    return rows


def _part(slicing: Slicing, group: int, asked: EvaluationSet) -> tuple[NDArray[np.int64], SparseRows]:
    """Places (V,) of the users of a group, and what is right for them: CSR (V, item_count) without empty rows."""
    chosen = slicing.group_of == group
    if slicing.of == "users":
        users = np.flatnonzero(chosen)
        return users, asked.relevant[users]
    relevant = asked.relevant.copy()
    relevant.data = np.where(chosen, relevant.data, 0)
    relevant.eliminate_zeros()
    users = np.flatnonzero(np.diff(relevant.indptr))
    return users, relevant[users]


def _figures(
    ours: dict[str, FloatArray], theirs: dict[str, FloatArray], k: int, bootstrap: Bootstrap
) -> dict[str, Any]:
    ndcg, recall = f"ndcg@{k}", f"recall@{k}"
    values = {ndcg: ours[ndcg], recall: ours[recall], "lead": ours[ndcg] - theirs[ndcg]}
    figures: dict[str, Any] = {f"baseline_{ndcg}": float(theirs[ndcg].mean())}
    for name, interval in bootstrap.intervals(values).items():
        figures |= {name: interval.mean, f"{name}_ci": [interval.low, interval.high]}
    return figures


def _is_in(pairs: SparseRows, user: IntArray, item: IntArray) -> BoolArray:
    """(n,) whether each (user, item) is stored in `pairs`: CSR (U, item_count)."""
    found: BoolArray = np.zeros(len(user), np.bool_)
    counts = np.diff(pairs.indptr)
    keys = np.repeat(np.arange(len(counts), dtype=np.int64), counts) * pairs.shape[1] + pairs.indices
    found[:] = np.isin(user.astype(np.int64) * pairs.shape[1] + item, keys)
    return found


def _most_frequent(values: Sequence[str], weights: FloatArray) -> tuple[tuple[str, ...], NDArray[np.int64]]:
    """The VALUES_MAX heaviest values as groups, the rest as one; equal weights by name."""
    names, codes = np.unique(np.array(values, dtype=np.str_), return_inverse=True)
    order = np.lexsort((names, -np.bincount(codes, weights=weights, minlength=len(names))))
    place = np.empty(len(names), np.int64)
    place[order] = np.arange(len(names))
    group_of = np.minimum(place[codes], VALUES_MAX)
    groups = tuple(str(names[code]) for code in order[:VALUES_MAX])
    return (*groups, OTHER) if len(names) > VALUES_MAX else groups, group_of.astype(np.int64)


def _quartiles(values: NDArray[np.floating[Any]]) -> tuple[tuple[str, ...], NDArray[np.int64]]:
    """Four groups of about equal size, fewer where values repeat; NaN in none."""
    known = values[~np.isnan(values)]
    edges = _edges(known, QUARTILES)
    group_of = np.where(np.isnan(values), -1, np.searchsorted(edges, values, side="left")).astype(np.int64)
    groups = []
    for group in range(len(edges) + 1 if len(known) else 0):
        inside = values[group_of == group]
        groups.append(f"{inside.min():.4g} to {inside.max():.4g}")
    return tuple(groups), group_of


def _edges(values: NDArray[Any], count: int) -> NDArray[Any]:
    """The highest value of each of at most `count` groups of about equal size, but for the last one's."""
    if not len(values):
        return np.zeros(0)
    edges = np.unique(np.quantile(values, np.arange(1, count) / count, method="lower"))
    return np.asarray(edges[edges < values.max()])


def _span(low: int, high: int) -> str:
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"
