import numpy as np
import pytest

from towers.evaluation import EvaluationSet, evaluate_rankings
from towers.reporting.calibration import reliability, reliability_bins, wilson
from towers.reporting.contribution import ablation, contribution, known
from towers.reporting.lists import SOURCE_BIT_OF, RankedLists, bits_of, names_of

TOWER, AGAIN, POPULAR = (SOURCE_BIT_OF[name] for name in ("two_tower", "buy_again", "popular"))


def lists(rows: list[list[int]], sources: list[list[int]] | None = None) -> RankedLists:
    found = RankedLists.empty(len(rows), len(rows[0]))
    found.rows[:] = rows
    if sources is not None:
        found.sources[:] = sources
    return found


def test_bits_and_names_are_each_others_inverse() -> None:
    assert bits_of("two_tower+popular") == TOWER | POPULAR
    assert names_of(TOWER | POPULAR) == "two_tower+popular"
    assert bits_of("") == bits_of("a_later_one") == 0
    assert len(set(SOURCE_BIT_OF.values())) == len(SOURCE_BIT_OF)


def test_each_source_has_its_places_and_hits_and_those_that_it_alone_brought(asked: EvaluationSet) -> None:
    shown = lists(  # hits: items 0 and 3 of user 0, item 1 of user 1, none of user 2
        [[0, 3, 5], [1, 0, -1], [5, -1, -1]],
        [[TOWER | AGAIN, TOWER, POPULAR], [AGAIN, POPULAR, 0], [POPULAR | AGAIN, 0, 0]],
    )
    tower, again, popular = contribution(shown, asked, 3)
    assert tower["source"] == "two_tower"
    assert (tower["shown"], tower["hits"], tower["shown_alone"], tower["hits_alone"]) == (2, 2, 1, 1)
    assert (tower["shown_share"], tower["hits_share"]) == pytest.approx((2 / 6, 2 / 3))
    assert (again["shown"], again["hits"], again["shown_alone"], again["hits_alone"]) == (3, 2, 1, 1)
    assert again["hit_rate"] == pytest.approx(2 / 3)
    assert (popular["shown"], popular["hits"], popular["shown_alone"], popular["hits_alone"]) == (3, 0, 2, 0)
    (first,) = contribution(shown, asked, 1)[:1]
    assert (first["shown"], first["shown_share"]) == (1, pytest.approx(1 / 3))


def test_lists_that_do_not_say_where_they_are_from() -> None:
    assert not known(lists([[0, 1]]))
    assert known(lists([[0, 1]], [[TOWER, 0]]))


def test_ablation_is_the_loss_against_the_lists_with_all_sources(asked: EvaluationSet) -> None:
    whole = evaluate_rankings(np.array([[0, 3], [1, 5], [2, 4]]), asked, (2,))
    without = {"two_tower": lists([[0, 3], [1, 5], [2, 4]]), "buy_again": lists([[3, 0], [5, 0], [2, 4]])}
    same, needed = ablation(whole, without, asked, (2,), 2)
    assert (same["source"], same["loss"], same["ndcg@2"], same["significant"]) == ("two_tower", 0.0, 1.0, False)
    assert needed["loss"] == pytest.approx(1 / 3)  # user 1 loses all, the others nothing
    assert needed["recall@2"] == pytest.approx(2 / 3)


def test_reliability_in_bins_of_equal_size() -> None:
    scores = np.array([0.9, 0.1, 0.2, 0.8])
    low, high = reliability_bins(scores, np.array([True, False, True, True]), bin_count=2)
    assert (low["predicted"], low["observed"], low["places"]) == (pytest.approx(0.15), 0.5, 2)
    assert (high["predicted"], high["observed"], high["places"]) == (pytest.approx(0.85), 1.0, 2)
    assert len(reliability_bins(scores[:1], np.array([True]))) == 1


def test_the_interval_of_a_share_is_wilsons() -> None:
    assert wilson(0.5, 10) == pytest.approx((0.2366, 0.7634), abs=1e-4)
    assert wilson(0.0, 10) == pytest.approx((0.0, 0.2775), abs=1e-4)


def test_reliability_of_lists_leaves_out_pads(asked: EvaluationSet) -> None:
    shown = lists([[0, 5], [1, -1], [5, -1]])
    shown.scores[:] = [[0.8, 0.1], [0.6, np.nan], [0.1, np.nan]]
    found = reliability(shown, asked)
    assert found["places"] == 4
    assert len(found["bins"]) == 4
    assert found["calibration_error"] == pytest.approx((0.1 + 0.1 + 0.4 + 0.2) / 4)
    assert found["auc"] == 1.0
    assert found["log_loss"] == pytest.approx(-(np.log(0.8) + np.log(0.6) + 2 * np.log(0.9)) / 4)


def test_scores_that_are_no_probabilities_are_said(asked: EvaluationSet) -> None:
    shown = lists([[0, 5], [1, -1], [5, -1]])
    assert reliability(shown, asked) == {"note": "the lists hold no scores"}
    shown.scores[0] = [3.5, 0.5]
    assert "no probabilities" in reliability(shown, asked)["note"]
