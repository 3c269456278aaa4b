import numpy as np
import pytest

from towers.evaluation import EvaluationSet, evaluate_rankings
from towers.reporting.significance import against_each, holm


def test_holm_multiplies_by_how_many_are_left_and_keeps_the_order() -> None:
    # ascending: .01 · 3 = .03, .03 · 2 = .06, .04 · 1 = .04 but not below the one before it
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.6, 0.7]) == [1.0, 1.0]
    assert holm([]) == []


def test_each_other_list_is_compared_user_by_user(asked: EvaluationSet) -> None:
    ours = evaluate_rankings(np.array([[0, 3], [1, 5], [2, 4]]), asked, (2,))
    worse = evaluate_rankings(np.array([[5, 3], [5, 0], [5, 4]]), asked, (2,))
    rows = against_each(ours, {"same": ours, "worse": worse}, ("recall@2", "ndcg@2"))
    found = {(row["other"], row["metric"]): row for row in rows}
    assert list(found) == [("same", "recall@2"), ("same", "ndcg@2"), ("worse", "recall@2"), ("worse", "ndcg@2")]
    assert found["same", "recall@2"]["difference"] == 0.0
    assert found["same", "recall@2"]["p_holm"] == 1.0
    assert not found["same", "ndcg@2"]["significant"]
    # recall: 1, 1, 1 against 1/2, 0, 1/2
    assert found["worse", "recall@2"]["difference"] == pytest.approx(2 / 3)
    second_place = (1 / np.log2(3)) / (1 + 1 / np.log2(3))
    assert found["worse", "ndcg@2"]["difference"] == pytest.approx(1 - 2 * second_place / 3)
    assert against_each(ours, {}, ("ndcg@2",)) == []


def test_the_correction_covers_all_rows(asked: EvaluationSet) -> None:
    ours = evaluate_rankings(np.array([[0, 3], [1, 5], [2, 4]]), asked, (2,))
    nothing = evaluate_rankings(np.full((3, 2), -1), asked, (2,))
    one = against_each(ours, {"a": nothing}, ("recall@2",))
    four = against_each(ours, {"a": nothing, "b": nothing}, ("recall@2", "ndcg@2"))
    assert one[0]["p_holm"] == one[0]["p"] == pytest.approx(1 / 10_001)  # the difference is 1 for every user
    assert [row["p_holm"] for row in four] == pytest.approx([4 / 10_001] * 4)
