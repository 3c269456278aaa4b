"""An item without an id embedding (never or hardly bought) is still placed by its attributes, among what is like it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from tests.conftest import SmallModel
from towers.features.histories import FloatArray
from towers.learning_data import LearningData, encode
from towers.model import TrainedModel, read_model
from towers.models.item_tower import ItemTensors, ItemTower
from towers.models.user_tower import UserTower
from towers.recommender import UserEmbedder
from towers.schema import load_dataset
from towers.training.cuts import last_context, shoppers_at, users_before
from towers.training.tower_task import Towers, embed_items


@dataclass(frozen=True)
class Shop:
    """The small shop's model, and what its items are."""

    model: TrainedModel
    data: LearningData
    item_ids: list[str]
    categories: NDArray[np.str_]

    @property
    def cold(self) -> list[int]:
        """Rows without an id embedding."""
        return np.flatnonzero(self.data.items.id_code == 0).tolist()


@pytest.fixture(scope="module")
def shop(small_model: SmallModel) -> Shop:
    model, dataset = read_model(small_model.model_dir), load_dataset(small_model.dataset_dir)
    data = encode(dataset, model.encoders, model.settings, model.towers_until_s)
    return Shop(model, data, dataset.items["item_id"].to_list(), np.array(dataset.items["category"].to_list()))


def vectors_of(shop: Shop, tower: ItemTower) -> FloatArray:
    vectors: FloatArray = embed_items(tower, ItemTensors.of(shop.data.items, torch.device("cpu"))).numpy()
    return vectors


def liking(shop: Shop, item: ItemTower, user: UserTower) -> FloatArray:
    """For each cold item: how much nearer those who bought of its category are than those who did not."""
    vectors, model = vectors_of(shop, item), shop.model
    now_s = model.towers_until_s
    users = users_before(shop.data, now_s)
    shoppers = shoppers_at(shop.data, model.settings, users, now_s, last_context(shop.data, users, now_s))
    embedder = UserEmbedder(user, vectors, model.settings.features.sequence_events_max)
    similarity = embedder.embed(shoppers).vectors @ vectors.T  # (users, items)
    bought = shoppers.purchases.groups
    margins = []
    for row in shop.cold:
        fans = np.zeros(len(users), np.bool_)
        fans[bought.request[shop.categories[bought.item_row] == shop.categories[row]]] = True
        margins.append(similarity[fans, row].mean() - similarity[~fans, row].mean())
    return np.array(margins, np.float32)


def test_there_are_items_that_nobody_bought(shop: Shop) -> None:
    names = {shop.item_ids[row] for row in shop.cold}
    assert {"new-jackets", "new-shoes", "new-tents"} <= names
    assert len(names) >= 8


def test_cold_items_lie_nearer_to_their_own_category_than_to_others(shop: Shop) -> None:
    vectors = vectors_of(shop, shop.model.item_tower)
    margins = []
    for row in shop.cold:
        similarity = vectors @ vectors[row]
        own = shop.categories == shop.categories[row]
        own[row] = False
        margins.append(similarity[own].mean() - similarity[shop.categories != shop.categories[row]].mean())
    assert np.mean(margins) > 0.15
    assert np.mean(np.array(margins) > 0) > 0.75


def test_cold_items_lie_nearer_to_those_who_buy_of_their_category(shop: Shop) -> None:
    """This has to be learned: with towers as they are born, nobody is nearer."""
    margins = liking(shop, shop.model.item_tower, shop.model.user_tower)
    assert margins.mean() > 0.05
    assert (margins > 0).mean() > 0.7
    born = []
    for seed in range(5):
        torch.manual_seed(seed)
        towers = Towers(shop.data, shop.model.settings).eval()
        born.append(liking(shop, towers.item, towers.user).mean())
    assert abs(np.mean(born)) < 0.03
    assert margins.mean() > max(born)
