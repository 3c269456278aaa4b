from __future__ import annotations

import numpy as np

from tests.towers.random_logs import PURCHASE, VIEW, histories_of
from towers.features.vocabularies import Vocabulary
from towers.learning_data import encode, fit_encoders, retrievable_items
from towers.schema import Dataset, ShopConfig

DAY_S = 86_400


def test_encoders_learn_ids_and_contexts_from_the_past_alone(small_dataset: Dataset, small_shop: ShopConfig) -> None:
    settings = small_shop.learning
    early_s = small_dataset.meta.first_time_s + 5 * DAY_S
    early = fit_encoders(small_dataset, settings, early_s)
    late = fit_encoders(small_dataset, settings, small_dataset.meta.last_time_s + 1)
    assert len(early.items.ids) < len(late.items.ids)
    assert set(fit_encoders(small_dataset, settings, 0).contexts["device"].values) == set()
    assert set(late.contexts["device"].values) >= {"desktop", "phone", "tablet"}
    assert early.items.categorical == late.items.categorical  # the catalogue has no times


def test_an_item_earns_an_id_embedding_by_enough_target_events(small_dataset: Dataset, small_shop: ShopConfig) -> None:
    encoders = fit_encoders(small_dataset, small_shop.learning, small_dataset.meta.last_time_s + 1)
    events = small_dataset.events
    bought = np.bincount(
        events.item_row[events.event_type == small_dataset.meta.event_types.index("purchase")],
        minlength=small_dataset.item_count,
    )
    earned = small_dataset.items["item_id"].to_numpy()[bought >= small_shop.towers.item_events_min]
    assert set(encoders.items.ids.values) == set(earned)


def test_rows_of_the_learning_data_are_those_of_the_dataset(small_dataset: Dataset, small_shop: ShopConfig) -> None:
    until_s = small_dataset.meta.first_time_s + 20 * DAY_S
    encoders = fit_encoders(small_dataset, small_shop.learning, until_s)
    data = encode(small_dataset, encoders, small_shop.learning, until_s)
    assert (data.item_count, data.user_count) == (small_dataset.item_count, small_dataset.user_count)
    assert data.histories.item_row.tolist() == small_dataset.events.item_row.tolist()
    assert data.context.shape == (len(small_dataset.events), 1)
    categories = encoders.items.categorical["category"]
    assert isinstance(categories, Vocabulary)
    assert (
        data.items.attribute_code[:, 0].tolist() == categories.codes(small_dataset.items["category"].to_list()).tolist()
    )
    assert data.users.attribute.shape == (small_dataset.user_count, 3)
    assert (data.users.attribute > 0).all()


def test_users_who_came_later_have_the_bucket_of_the_unknown(small_dataset: Dataset, small_shop: ShopConfig) -> None:
    until_s = small_dataset.meta.first_time_s + 5 * DAY_S
    data = encode(
        small_dataset, fit_encoders(small_dataset, small_shop.learning, until_s), small_shop.learning, until_s
    )
    events = small_dataset.events
    early = np.unique(events.user_row[events.time_s < until_s])
    assert 0 < len(early) < small_dataset.user_count
    assert np.flatnonzero(data.users.bucket).tolist() == early.tolist()
    assert data.users.bucket.max() <= small_shop.features.user_id_buckets


def test_items_are_retrievable_by_distinct_buyers_before_the_moment() -> None:
    log = histories_of(
        [
            [(0, PURCHASE, 1), (0, PURCHASE, 2), (1, PURCHASE, 3), (2, VIEW, 4)],
            [(1, PURCHASE, 5), (0, PURCHASE, 9), (2, VIEW, 4)],
        ]
    )
    assert retrievable_items(log, 4, until_s=9, item_users_min=2).tolist() == [False, True, False, False]
    assert retrievable_items(log, 4, until_s=10, item_users_min=2).tolist() == [True, True, False, False]
    assert retrievable_items(log, 4, until_s=9, item_users_min=1).tolist() == [True, True, False, False]
    assert retrievable_items(log, 4, until_s=9, item_users_min=0).all()
