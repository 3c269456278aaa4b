"""Towers that begin with another model's weights, and a run whose towers learn again under the same ranker."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from rich.progress import Progress

from tests.conftest import SmallModel
from tests.towers.exact_retriever import SortingRetriever
from towers.learning_data import encode, fit_encoders
from towers.model import TrainedModel, read_model
from towers.models.item_tower import ItemTensors
from towers.schema import Dataset
from towers.training.carrying import carry_weights
from towers.training.run import TrainingRun
from towers.training.tower_task import Towers, embed_items


@pytest.fixture(scope="module")
def model(small_model: SmallModel) -> TrainedModel:
    return read_model(small_model.model_dir)


@pytest.fixture(scope="module")
def end_s(small_dataset: Dataset) -> int:
    return small_dataset.meta.last_time_s + 1


def test_rows_follow_their_values_and_unknown_ones_keep_theirs(
    model: TrainedModel, small_dataset: Dataset, end_s: int
) -> None:
    encoders = fit_encoders(small_dataset, model.settings, end_s)
    data = encode(small_dataset, encoders, model.settings, end_s)
    torch.manual_seed(1)
    towers = Towers(data, model.settings)
    fresh = towers.item.id_embedding.weight.detach().clone()
    carry_weights(model, towers, encoders)
    known, wanted = model.encoders.items.ids.values, encoders.items.ids.values
    assert set(known) < set(wanted)  # the later log earned more items an embedding
    weight, old = towers.item.id_embedding.weight, model.item_tower.id_embedding.weight
    for code, item in enumerate(wanted, start=1):
        expected = old[known.index(item) + 1] if item in known else fresh[code]
        torch.testing.assert_close(weight[code], expected)
    torch.testing.assert_close(towers.user.mlp[0].weight, model.user_tower.mlp[0].weight)

    # An item that both know has the very vector it had.
    tensors = ItemTensors.of(data.items, torch.device("cpu"))
    before = encode(small_dataset, model.encoders, model.settings, end_s).items
    both = np.flatnonzero(before.id_code > 0)
    vectors = embed_items(towers.eval().item, tensors).numpy()
    expected_vectors = embed_items(model.item_tower, ItemTensors.of(before, torch.device("cpu"))).numpy()
    np.testing.assert_allclose(vectors[both], expected_vectors[both], atol=1e-6)


def test_towers_learn_again_until_the_end_and_the_ranker_stays(
    small_model: SmallModel, small_dataset: Dataset, model: TrainedModel, end_s: int
) -> None:
    config = small_model.config
    progress = Progress(disable=True)
    run = TrainingRun(small_dataset, config.learning, SortingRetriever, config.run_dir, progress, lambda _: None)
    again = run.learn_again(model)
    assert (again.towers_until_s, again.ranker_until_s) == (end_s, model.ranker_until_s)
    for name, value in model.ranker.state_dict().items():
        torch.testing.assert_close(again.ranker.state_dict()[name], value)
    assert len(again.encoders.items.ids) > len(model.encoders.items.ids)
    data = encode(small_dataset, again.encoders, model.settings, end_s)
    before = encode(small_dataset, model.encoders, model.settings, end_s)
    new = embed_items(again.item_tower, ItemTensors.of(data.items, torch.device("cpu"))).numpy()
    old = embed_items(model.item_tower, ItemTensors.of(before.items, torch.device("cpu"))).numpy()
    both = np.flatnonzero(before.items.id_code > 0)
    alike = (new[both] * old[both]).sum(axis=1).mean()
    assert 0.5 < alike < 0.9999  # moved, and still in the space that the ranker knows
    assert again.files() == run.learn_again(model).files()
