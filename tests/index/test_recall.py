"""Recall by hand, with ties at the border."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from index.exact import ExactSearcher
from index.recall import recall_at_k
from index.searcher import Rows, Scores

VECTORS = np.array([[4.0], [3.0], [2.0], [2.0], [1.0]], np.float32)
QUERIES = np.array([[1.0]], np.float32)


class Fixed:
    """Answers with given rows."""

    item_count = 5
    dimension = 1

    def __init__(self, rows: list[int]) -> None:
        self._rows = rows

    def search(self, queries: npt.NDArray[np.float32], k: int) -> tuple[Scores, Rows]:
        return np.zeros((1, k), np.float32), np.array([self._rows], np.int64)


@pytest.mark.parametrize(
    ("rows", "expected"),
    [([0, 1, 2], 1.0), ([0, 1, 3], 1.0), ([0, 1, 4], 2 / 3), ([0, -1, -1], 1 / 3), ([-1, -1, -1], 0.0)],
    ids=["the best", "an equal at the border", "a worse one", "two not found", "none found"],
)
def test_recall_at_3(rows: list[int], expected: float) -> None:
    exact_scores, _ = ExactSearcher(VECTORS).search(QUERIES, 3)
    assert recall_at_k(Fixed(rows), VECTORS, QUERIES, exact_scores) == pytest.approx(expected)


def test_a_k_above_the_item_count_counts_only_items_that_exist() -> None:
    exact = ExactSearcher(VECTORS)
    exact_scores, _ = exact.search(QUERIES, 8)
    assert recall_at_k(exact, VECTORS, QUERIES, exact_scores) == 1.0


def test_nothing_asked_is_nothing_missed() -> None:
    exact = ExactSearcher(VECTORS)
    assert recall_at_k(exact, VECTORS, QUERIES[:0], np.empty((0, 3), np.float32)) == 1.0
