"""Cold users: asked as strangers, without id and attributes, with nothing but their newest 0, 1 or 3 events."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from scipy.sparse import csr_array

from towers.evaluation import Bootstrap, EvaluationSet, TimeSplit, per_user_metrics, train_log
from towers.evaluation.baselines import popularity
from towers.evaluation.content import content, item_terms
from towers.evaluation.metrics import IntArray, SparseRows
from towers.reporting.asking import Asker
from towers.schema import Dataset

EVENT_COUNTS = (0, 1, 3)

Rankings = Mapping[str, IntArray]


def cold_users(asker: Asker, dataset: Dataset, split: TimeSplit, k: int) -> list[dict[str, Any]]:
    """One row for each of EVENT_COUNTS: recall@k of the model, of popularity and of content, with intervals."""
    asked = replace(split.evaluation_set, exclude_bought=False)  # nobody knows what a stranger had
    log, terms = train_log(split), item_terms(dataset)
    popular = popularity(log).recommend(asked.user_rows, k, exclude_bought=False)
    rows = []
    for count in EVENT_COUNTS:
        profile = _newest_items(asker, asked, count)
        rankings = {
            "twinrank": asker.ask_as_strangers(asked, k, count).rows,
            "popularity": popular,
            "content": content(log, profile, terms).recommend(asked.user_rows, k, exclude_bought=False),
        }
        rows.append({"events": count, "users": asked.user_count, **recalls(rankings, asked.relevant, k)})
    return rows


def recalls(rankings: Rankings, relevant: SparseRows, k: int) -> dict[str, Any]:
    """{NAME: recall@k, NAME_ci: [low, high]} of each ranking, and NAME_lead, NAME_lead_ci of the first one over it."""
    metric = f"recall@{k}"
    values = {name: per_user_metrics(rows, relevant, (k,))[metric] for name, rows in rankings.items()}
    first, *others = values
    values |= {f"{name}_lead": values[first] - values[name] for name in others}
    found: dict[str, Any] = {}
    for name, interval in Bootstrap().intervals(values).items():
        found |= {name: interval.mean, f"{name}_ci": [interval.low, interval.high]}
    return found


def _newest_items(asker: Asker, asked: EvaluationSet, event_count: int) -> SparseRows:
    """CSR (user_count, item_count): the items of each asked user's newest events."""
    data = asker.data
    start, end = asker.newest_events(asked.user_rows, event_count)
    lengths = end - start
    places = np.repeat(start - np.cumsum(lengths) + lengths, lengths) + np.arange(lengths.sum())
    users = np.repeat(asked.user_rows, lengths)
    ones = np.ones(len(places))
    return csr_array((ones, (users, data.histories.item_row[places])), shape=(data.user_count, data.item_count))
