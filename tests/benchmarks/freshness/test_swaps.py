"""What the swaps' benchmark takes for one list, and what for a mixture."""

from __future__ import annotations

from tests.benchmarks.freshness.swaps import agree

WANTED = (("a", "b", "c"), (0.9, 0.5, 0.5 - 1e-8))


def test_items_of_the_same_score_may_change_places() -> None:
    assert agree(WANTED, WANTED)
    assert agree(WANTED, (("a", "c", "b"), (0.9, 0.5, 0.5)))


def test_other_items_scores_or_orders_are_another_list() -> None:
    assert not agree(WANTED, (("a", "b", "d"), WANTED[1]))
    assert not agree(WANTED, (("b", "a", "c"), (0.5, 0.9, 0.5)))
    assert not agree(WANTED, (("a", "c", "b"), (0.9, 0.6, 0.5)))
    assert not agree(WANTED, (("a", "b"), (0.9, 0.5)))
