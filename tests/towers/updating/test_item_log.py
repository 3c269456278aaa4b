"""The log sorted once gives, at every moment, what the log sorted for that moment gives."""

from __future__ import annotations

import numpy as np
import pytest

from tests.conftest import SmallModel
from towers.item_table import item_table
from towers.learning_data import LearningData, encode
from towers.model import TrainedModel, read_model
from towers.schema import Dataset
from towers.updating.item_log import ItemLog

DAY_S = 86_400


@pytest.fixture(scope="module")
def model(small_model: SmallModel) -> TrainedModel:
    return read_model(small_model.model_dir)


@pytest.fixture(scope="module")
def data(small_dataset: Dataset, model: TrainedModel) -> LearningData:
    return encode(small_dataset, model.encoders, model.settings, model.towers_until_s)


@pytest.mark.parametrize("days", [0, 1, 7, 28, 45, 80, 89])
def test_the_item_table_of_every_moment_is_the_same(
    days: int, data: LearningData, model: TrainedModel, small_dataset: Dataset
) -> None:
    as_of_s = small_dataset.meta.first_time_s + days * DAY_S
    vectors = np.zeros((data.item_count, 4), np.float32)
    for users_min in (0, 3):
        training = model.settings.training.model_copy(update={"item_users_min": users_min})
        settings = model.settings.model_copy(update={"training": training})
        found = ItemLog.of(data.histories, data.item_count).table(data, vectors, settings, as_of_s)
        expected = item_table(data, vectors, settings, as_of_s)
        np.testing.assert_array_equal(found.statistics, expected.statistics)
        np.testing.assert_array_equal(found.popular, expected.popular)
        np.testing.assert_array_equal(found.retrievable, expected.retrievable)
        np.testing.assert_array_equal(found.affinity, expected.affinity)
