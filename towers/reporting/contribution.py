"""What each source of candidates is worth: the places and hits it brought, and what the lists lose without it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from towers.evaluation import EvaluationSet, MetricsReport, evaluate_rankings
from towers.evaluation.metrics import hit_places
from towers.reporting.lists import SOURCE_BIT_OF, RankedLists
from towers.reporting.significance import against_each


def contribution(lists: RankedLists, asked: EvaluationSet, k: int) -> list[dict[str, Any]]:
    """One row a source that brought anything: how many of the shown items and of the hits, and how many it alone.

    An item that several sources brought counts for each of them, so shares add up to more than 1.

    Returns:
        Rows {source, shown, shown_share, hits, hits_share, hit_rate, shown_alone, hits_alone}; `hit_rate` is hits /
        shown. Empty where the lists do not say where their items are from.
    """
    rows, sources = lists.rows[:, :k], lists.sources[:, :k]
    hits = hit_places(rows, asked.relevant)
    shown_count, hit_count = int((rows >= 0).sum()), int(hits.sum())
    table = []
    for name, bit in SOURCE_BIT_OF.items():
        brought, alone = (sources & bit) != 0, sources == bit
        if not brought.any():
            continue
        shown, found = int(brought.sum()), int((brought & hits).sum())
        table.append(
            {
                "source": name,
                "shown": shown,
                "shown_share": shown / shown_count,
                "hits": found,
                "hits_share": found / hit_count if hit_count else 0.0,
                "hit_rate": found / shown,
                "shown_alone": int(alone.sum()),
                "hits_alone": int((alone & hits).sum()),
            }
        )
    return table


def ablation(
    whole: MetricsReport, without: Mapping[str, RankedLists], asked: EvaluationSet, ks: Sequence[int], k: int
) -> list[dict[str, Any]]:
    """One row a source: NDCG of the lists ranked again without it, and the loss (whole minus without) with interval."""
    reports = {name: evaluate_rankings(lists.rows, asked, ks) for name, lists in without.items()}
    metric = f"ndcg@{k}"
    losses = {row["other"]: row for row in against_each(whole, reports, (metric,))}
    return [
        {
            "source": name,
            metric: report.mean(metric),
            f"recall@{k}": report.mean(f"recall@{k}"),
            "loss": losses[name]["difference"],
            "loss_ci": losses[name]["ci"],
            "p_holm": losses[name]["p_holm"],
            "significant": losses[name]["significant"],
        }
        for name, report in reports.items()
    ]


def known(lists: RankedLists) -> bool:
    """Whether the lists say where their items are from."""
    return bool(np.any(lists.sources))
