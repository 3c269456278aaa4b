from __future__ import annotations

import numpy as np
import pytest

from towers import item_table as module
from towers.features.item_statistics import STATISTIC_NAMES, item_statistics
from towers.item_table import item_table
from towers.learning_data import LearningData, encode, fit_encoders, retrievable_items
from towers.schema import Dataset, ShopConfig
from towers.settings import LearningSettings

DAY_S = 86_400


@pytest.fixture(scope="module")
def settings(small_shop: ShopConfig) -> LearningSettings:
    training = small_shop.training.model_copy(update={"item_users_min": 3})
    return small_shop.learning.model_copy(update={"training": training})


@pytest.fixture(scope="module")
def data(small_dataset: Dataset, settings: LearningSettings) -> LearningData:
    until_s = small_dataset.meta.last_time_s
    return encode(small_dataset, fit_encoders(small_dataset, settings, until_s), settings, until_s)


def test_popular_items_are_retrievable_and_ordered_by_recent_then_by_all_buyers(
    small_dataset: Dataset, data: LearningData, settings: LearningSettings
) -> None:
    moment = small_dataset.meta.first_time_s + 60 * DAY_S
    table = item_table(data, np.zeros((data.item_count, 4), np.float32), settings, moment)
    statistics = item_statistics(data.histories, data.item_count, moment)
    buyers = statistics.values[:, STATISTIC_NAMES.index("log_buyers")]
    keys = [(float(statistics.popularity[row]), float(buyers[row])) for row in table.popular]
    assert keys == sorted(keys, reverse=True)
    assert sorted(table.popular.tolist()) == np.flatnonzero(table.retrievable).tolist()
    expected = retrievable_items(data.histories, data.item_count, moment, 3)
    assert table.retrievable.tolist() == expected.tolist()
    assert 0 < expected.sum() < data.item_count


def test_only_so_many_popular_items_are_kept(
    small_dataset: Dataset, data: LearningData, settings: LearningSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "POPULAR_MAX", 5)
    vectors = np.zeros((data.item_count, 4), np.float32)
    assert len(item_table(data, vectors, settings, small_dataset.meta.last_time_s).popular) == 5


def test_affinity_codes_are_those_of_the_named_attributes(
    small_dataset: Dataset, data: LearningData, settings: LearningSettings
) -> None:
    vectors = np.zeros((data.item_count, 4), np.float32)
    table = item_table(data, vectors, settings, small_dataset.meta.last_time_s)
    assert settings.features.affinity_attributes == ("category", "brand")
    names = list(data.encoders.items.categorical)
    assert table.affinity.shape == (data.item_count, 2)
    for column, name in enumerate(settings.features.affinity_attributes):
        codes = data.items.attribute_code[:, names.index(name)]
        assert table.affinity[:, column].tolist() == codes.tolist()
        assert table.affinity_counts[column] == codes.max() + 1
