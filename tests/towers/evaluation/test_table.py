import io
import json

import numpy as np
import pytest
from rich.console import Console

from tests.towers.evaluation.tiny_log import tiny_split
from towers.evaluation.bootstrap import Bootstrap
from towers.evaluation.report import evaluate_rankings
from towers.evaluation.table import Comparison, compare

PERFECT = np.array([[2, 0, 1], [1, 0, 2], [1, 0, 2]])
PERFECT_NEW = np.array([[2, -1, -1], [1, -1, -1]])


@pytest.fixture(scope="module")
def comparisons() -> tuple[Comparison, Comparison]:
    return compare(tiny_split(), {"served": PERFECT}, {"served": PERFECT_NEW}, ks=(1, 3))


def test_a_report_holds_means_intervals_coverage_and_counts() -> None:
    report = evaluate_rankings(PERFECT, tiny_split().evaluation_set, ks=(1,))
    summary = report.as_dict()
    assert summary["users"] == 3
    assert summary["candidates"] == 3
    assert summary["recall@1"] == 1.0
    assert summary["ndcg@1_ci"] == [1.0, 1.0]
    assert summary["coverage@1"] == pytest.approx(2 / 3)
    assert json.loads(json.dumps(summary)) == summary


def test_a_report_is_compared_with_another_user_by_user() -> None:
    asked = tiny_split().evaluation_set
    ahead = evaluate_rankings(PERFECT, asked, ks=(1,))
    behind = evaluate_rankings(np.array([[2], [0], [1]]), asked, ks=(1,))
    difference = ahead.difference(behind, "recall@1", Bootstrap(resamples=200))
    assert difference.mean == pytest.approx(1 / 3)
    assert difference.low == 0.0


def test_every_baseline_and_model_is_judged_on_the_same_users(comparisons: tuple[Comparison, Comparison]) -> None:
    everything, new_only = (comparison.as_dict() for comparison in comparisons)
    assert set(everything["baselines"]) == {
        "popularity",
        "recent_popularity",
        "personal_frequency",
        "decayed_frequency",
        "tfidf",
        "bm25",
        "als",
        "als_tuned",
        "als_decayed_frequency",
    }
    assert {summary["users"] for group in everything.values() for summary in group.values()} == {3}
    assert {summary["users"] for group in new_only.values() for summary in group.values()} == {2}
    # personal frequency puts the right item first for user 3 only, popularity for nobody
    assert everything["baselines"]["personal_frequency"]["recall@1"] == pytest.approx(1 / 3)
    assert everything["baselines"]["popularity"]["recall@1"] == 0.0
    assert new_only["baselines"]["popularity"]["recall@1"] == 1.0  # one item is left for each of the two
    assert everything["models"]["served"]["recall@1"] == 1.0


def test_new_only_leaves_out_baselines_that_know_repeats_only(comparisons: tuple[Comparison, Comparison]) -> None:
    assert set(comparisons[1].baselines) == {"popularity", "recent_popularity", "tfidf", "bm25", "als", "als_tuned"}


def test_the_lead_is_over_the_best_baseline(comparisons: tuple[Comparison, Comparison]) -> None:
    everything = comparisons[0]
    best = max(report.mean("recall@1") for report in everything.baselines.values())
    assert everything.lead("served", "recall@1").mean == pytest.approx(1.0 - best)


def test_the_table_names_everyone_and_what_it_measures(comparisons: tuple[Comparison, Comparison]) -> None:
    console = Console(file=io.StringIO(), width=200)
    console.print(comparisons[0].table(columns=("recall@1", "coverage@3", "ndcg@20")))
    text = console.file.getvalue()  # type: ignore[attr-defined]
    for expected in ("All items (3 users, 95% intervals)", "als decayed frequency", "served", "coverage@3", "1.0000 ["):
        assert expected in text


def test_progress_is_told_every_baseline() -> None:
    told: list[str] = []
    compare(tiny_split(), {}, {}, ks=(1,), progress=told.append)
    assert told[0] == "popularity"
    assert "als" in told
