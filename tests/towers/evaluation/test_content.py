"""Four items: brand A, A, B, B; words in the titles of the first three. Terms weigh log(4 / items that share them)."""

import numpy as np
import polars as pl
import pytest
from scipy.sparse import csr_array

from tests.towers.evaluation.tiny_log import DAY_S, interactions
from towers.evaluation import split_by_time, train_log
from towers.evaluation.content import content, item_terms
from towers.schema import Dataset
from towers.schema.dataset import AttributeNames, DatasetCounts, DatasetMeta, EventColumns

TITLES = ["red shoe", "shoe", "Red", ""]


def dataset() -> Dataset:
    nobody = AttributeNames(categorical=(), numeric=(), text=())
    meta = DatasetMeta(
        format_version=1,
        shop="tiny",
        event_types=("purchase",),
        target_event_types=("purchase",),
        item_attributes=AttributeNames(categorical=("brand", "kind"), numeric=(), text=("title",)),
        user_attributes=nobody,
        context_columns=(),
        counts=DatasetCounts(rows=0, items=4, users=2),
        sources={},
        imputed={},
        first_time_s=0,
        last_time_s=0,
    )
    items = pl.DataFrame({"brand": ["A", "A", "B", "B"], "kind": ["k"] * 4, "title": TITLES})
    empty = np.zeros(0)
    columns = dict.fromkeys([name for name in EventColumns.__dataclass_fields__ if name != "context"], empty)
    return Dataset(meta, items, pl.DataFrame({"user_id": ["u", "v"]}), EventColumns(**columns, context={}))


def test_items_are_unit_vectors_of_weighted_terms() -> None:
    terms = item_terms(dataset())
    cosine = (terms @ terms.T).toarray()
    np.testing.assert_allclose(np.diag(cosine), 1.0)
    # every term but «kind» is shared by two of the four items and weighs log 2; «kind» by all, and weighs nothing
    assert cosine[0, 1] == pytest.approx(2 / np.sqrt(3 * 2))  # brand, shoe of (brand, red, shoe) and (brand, shoe)
    assert cosine[0, 2] == pytest.approx(1 / np.sqrt(3 * 2))  # red of (brand, red, shoe) and (brand, red)
    assert cosine[0, 3] == 0.0
    assert cosine[2, 3] == pytest.approx(1 / np.sqrt(2))


def test_who_has_nothing_gets_what_is_popular_and_others_what_is_like_theirs() -> None:
    events = [(0, 0, 1), (0, 3, 2), (1, 3, 3), (0, 1, 4), (0, 2, 5), (0, 0, 20), (1, 1, 20)]
    split = split_by_time(interactions(events, 2, 4), train_end_s=10 * DAY_S, item_users_min=1)
    profile = csr_array(([1.0], ([0], [0])), shape=(2, 4))  # user 0 had item 0, user 1 nothing
    lists = content(train_log(split), profile, item_terms(dataset())).recommend(
        np.array([0, 1], np.int32), 4, exclude_bought=False
    )
    assert lists[0].tolist() == [0, 1, 2, 3]
    assert lists[1].tolist() == [3, 0, 1, 2]  # item 3 has two users, then the lower row
