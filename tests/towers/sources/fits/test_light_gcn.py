"""LightGCN: the propagation is that of dense matrices, what it learns, and that a seed fixes it."""

from __future__ import annotations

import numpy as np
import torch

from tests.towers.sources.small_logs import random_log, source_log, source_request
from towers.sources.fits.light_gcn import Graph, _held_out, _loss, fit_light_gcn
from towers.sources.settings import LightGcnSettings

SETTINGS = LightGcnSettings(dimension=4, layers=2, epochs_max=15, batch_size=64, negatives=16)


def dense_graph(seen: np.ndarray) -> np.ndarray:
    scaled = seen / np.sqrt(np.maximum(seen.sum(axis=1, keepdims=True), 1))
    return scaled / np.sqrt(np.maximum(seen.sum(axis=0), 1))


def test_the_propagation_is_that_of_dense_matrices() -> None:
    matrix = random_log(1, 20, 9, 6).distinct()
    normalised, embedding = dense_graph(matrix.toarray()), np.random.default_rng(2).normal(size=(9, 3))
    square = normalised.T @ normalised
    vectors = (embedding + square @ embedding + square @ square @ embedding) / 3
    graph = Graph.of(matrix)
    found = graph.propagated(torch.from_numpy(embedding.astype(np.float32)), 2)
    np.testing.assert_allclose(found, vectors, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(graph.users(found), normalised @ vectors, rtol=1e-4, atol=1e-6)


def test_the_gradient_is_that_of_small_differences() -> None:
    matrix = random_log(1, 20, 9, 6).distinct()
    graph, batch, drawn = Graph.of(matrix), np.arange(7), torch.tensor([0, 3, 8])
    embedding = torch.randn(9, 3, generator=torch.Generator().manual_seed(1)).requires_grad_()
    _loss(graph, embedding, batch, drawn, SETTINGS).backward()
    assert embedding.grad is not None
    for row, column in ((0, 0), (4, 2), (8, 1)):
        shifted = [embedding.detach().clone() for _ in range(2)]
        shifted[0][row, column] += 0.01
        shifted[1][row, column] -= 0.01
        up, down = (float(_loss(graph, one, batch, drawn, SETTINGS)) for one in shifted)
        np.testing.assert_allclose(embedding.grad[row, column], (up - down) / 0.02, rtol=0.03, atol=2e-3)


def test_a_shopper_of_one_group_is_brought_its_items() -> None:
    random = np.random.default_rng(1)
    users = [[(int(row) + 5 * (user % 2), 1) for row in random.permutation(5)[:3]] for user in range(60)]
    source, scores = fit_light_gcn(source_log(users, 11), SETTINGS, 0), np.zeros((1, 11), np.float32)
    source.ask(source_request([[(6, 2), (8, 1)]])).write_scores(np.arange(11, dtype=np.int32)[None], scores)
    assert min(scores[0, [5, 7, 9]]) > max(scores[0, :5])
    assert scores[0, 10] == 0  # nobody did it


def test_what_is_held_out_is_one_item_of_users_who_keep_another() -> None:
    matrix = random_log(1, 50, 9, 6).distinct()
    rest, users, targets = _held_out(matrix, np.random.default_rng(3))
    assert len(users) == (np.diff(matrix.indptr) > 1).sum() // 5
    missing = (matrix - rest).toarray()
    assert missing[users, targets].tolist() == [1] * len(users)
    assert missing.sum() == len(users)
    assert (rest.toarray()[users].sum(axis=1) > 0).all()


def test_one_seed_gives_one_fit_and_another_seed_another() -> None:
    log = random_log(5, 60, 25, 20)
    one, again, other = (fit_light_gcn(log, SETTINGS, seed) for seed in (7, 7, 8))
    assert np.array_equal(one.brings, again.brings)
    assert np.array_equal(one.items, again.items)
    assert not np.array_equal(one.items, other.items)
