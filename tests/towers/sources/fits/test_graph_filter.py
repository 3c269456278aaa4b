"""The graph filter: its lists are the rows of the dense filter."""

from __future__ import annotations

import numpy as np
import pytest

from tests.towers.sources.small_logs import random_log, source_log, source_request
from towers.sources.fits import graph_filter
from towers.sources.fits.graph_filter import fit_graph_filter
from towers.sources.item_lists import ItemLists
from towers.sources.settings import GraphFilterSettings, ProfileSettings


def dense(source: ItemLists) -> np.ndarray:
    """(n, n) what each item's list gives."""
    out = np.zeros((source.item_count, source.item_count))
    out[np.repeat(np.arange(source.item_count), np.diff(source.offsets)), source.rows] = source.weights
    return out


def test_without_a_low_pass_part_it_is_the_graph_by_hand() -> None:
    """Users {0, 1}, {0, 1, 2}; degrees 2, 2, 1: P01 = (1/2 + 1/3)/2, P02 = P12 = 1/3/√2."""
    settings = GraphFilterSettings(dimension=0, own_exponent=0, popularity_exponent=0)
    found = dense(fit_graph_filter(source_log([[(0, 2), (1, 1)], [(0, 3), (1, 2), (2, 1)]], 4), settings, 0))
    one, other = 5 / 12, 1 / (3 * np.sqrt(2))
    wanted = [[0, one, other, 0], [one, 0, other, 0], [other, other, 0, 0], [0, 0, 0, 0]]
    np.testing.assert_allclose(found, wanted, rtol=1e-6)


@pytest.mark.parametrize(("step", "sharpening"), [(0.0, 0.0), (0.3, 0.0), (0.2, 1.5)])
@pytest.mark.parametrize("dense_items_max", [1_000, 0])
def test_the_lists_are_the_rows_of_the_dense_filter(
    step: float, sharpening: float, dense_items_max: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(graph_filter, "_DENSE_ITEMS_MAX", dense_items_max)
    log = random_log(2, 50, 12, 9)
    settings = GraphFilterSettings(
        dimension=4, step=step, sharpening=sharpening, own_exponent=0.3, popularity_exponent=0.2, neighbours=11
    )
    seen = log.distinct().toarray().astype(np.float64)
    users, items = np.maximum(seen.sum(axis=1), 1), seen.sum(axis=0)
    graph = (seen / users[:, None]).T @ seen / np.sqrt(np.outer(items, items))
    eigenvalues, vectors = np.linalg.eigh(graph)
    top, basis = eigenvalues[-4:], vectors[:, -4:]
    response = (top + step) * np.exp(-sharpening * (top - top[0]))
    filtered = graph + basis @ np.diag(response - top) @ basis.T
    wanted = filtered * items[:, None] ** -0.3 * items**0.2
    np.fill_diagonal(wanted, 0)
    found = dense(fit_graph_filter(log, settings, 0))
    np.testing.assert_allclose(found, np.maximum(wanted, 0), rtol=1e-3, atol=1e-5)


def test_each_item_keeps_its_largest_entries() -> None:
    log = random_log(2, 50, 12, 9)
    whole = dense(fit_graph_filter(log, GraphFilterSettings(dimension=4, neighbours=11), 0))
    cut = fit_graph_filter(log, GraphFilterSettings(dimension=4, neighbours=3), 0)
    for item in range(12):
        mine = slice(cut.offsets[item], cut.offsets[item + 1])
        np.testing.assert_allclose(cut.weights[mine], np.sort(whole[item])[::-1][:3], rtol=1e-4)


@pytest.mark.parametrize("neighbours", [1, 2, 5])
def test_lists_much_shorter_than_the_catalogue_keep_the_largest_entries_too(neighbours: int) -> None:
    log = random_log(3, 300, 90, 40)
    whole = dense(fit_graph_filter(log, GraphFilterSettings(dimension=4, neighbours=89), 0))
    cut = fit_graph_filter(log, GraphFilterSettings(dimension=4, neighbours=neighbours), 0)
    found = cut.weights.reshape(90, neighbours)
    np.testing.assert_array_equal(found, np.sort(whole, axis=1)[:, ::-1][:, :neighbours])
    np.testing.assert_array_equal(np.take_along_axis(whole, cut.rows.reshape(90, neighbours), axis=1), found)


def test_the_same_seed_gives_the_same_lists() -> None:
    log, settings = random_log(4, 80, 30, 12), GraphFilterSettings(dimension=8)
    one, again = fit_graph_filter(log, settings, 3), fit_graph_filter(log, settings, 3)
    assert all(np.array_equal(array, again.arrays()[name]) for name, array in one.arrays().items())


def test_a_log_without_events_gives_empty_lists() -> None:
    source = fit_graph_filter(source_log([[], []], 5), GraphFilterSettings(), 0)
    scores = np.zeros((1, 5), np.float32)
    source.ask(source_request([[(1, 1)]])).write_scores(np.arange(5, dtype=np.int32)[None], scores)
    assert not scores.any()


def test_the_graph_holds_the_newest_items_of_a_user_without_regard_to_their_age() -> None:
    users = [[(0, 300), (1, 200), (2, 1)], [(1, 9), (2, 8)]]
    plain = GraphFilterSettings(dimension=0, profile=ProfileSettings(items_max=2))
    halved = GraphFilterSettings(dimension=0, profile=ProfileSettings(items_max=2, half_life_days=5))
    found = dense(fit_graph_filter(source_log(users, 3), plain, 0))
    assert not found[0].any()
    np.testing.assert_array_equal(found, dense(fit_graph_filter(source_log(users, 3), halved, 0)))
