"""What the further heads learn, from a log small enough to read."""

from __future__ import annotations

from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest

from towers.features.histories import Histories
from towers.learning_data import LearningData
from towers.schema import ConfigError
from towers.training.head_targets import check_heads, further_targets

NAN = float("nan")
PURCHASE, RATING = 0, 1
ITEMS = 4
#       user, item, type, time, value, stars
EVENTS = [
    (0, 0, PURCHASE, 10, 5.0, NAN),
    (0, 3, PURCHASE, 15, 9.0, NAN),
    (0, 0, PURCHASE, 25, 2.0, NAN),
    (0, 0, PURCHASE, 28, 3.0, NAN),
    (0, 1, PURCHASE, 29, NAN, NAN),
    (0, 2, RATING, 30, NAN, 4.0),
    (0, 2, RATING, 31, NAN, 1.0),
    (0, 3, PURCHASE, 40, 7.0, 5.0),
    (1, 0, PURCHASE, 26, -1.0, NAN),
]


def log(events: list[tuple[int, int, int, int, float, float]] = EVENTS) -> LearningData:
    user, item, kind, time_s, value, rating = (np.array(column) for column in zip(*events, strict=True))
    histories = Histories.from_events(
        user.astype(np.int32), item.astype(np.int32), kind.astype(np.uint8), time_s, 2, [PURCHASE]
    )
    fields = {"histories": histories, "item_count": ITEMS, "value": value, "rating": rating}
    return cast(LearningData, SimpleNamespace(**fields))


def test_the_targets_of_every_head() -> None:
    candidate = np.array([0, 1, 2, 3, ITEMS])  # user 0: items 0 … 3; user 1: item 0
    label = np.array([True, True, False, False, True])
    found = further_targets(log(), ("buys", "buys_again", "value", "rating"), candidate, label, 20, 40)
    assert list(found) == ["buys_again", "value", "rating"]
    assert found["buys_again"].tolist() == [1, 0, 0, 0, 0]
    np.testing.assert_allclose(found["value"], np.log1p([5, 0, 0, 0, 0]))  # from 20 on, before 40, a return is nothing
    np.testing.assert_allclose(found["rating"], [NAN, NAN, 2.5, NAN, NAN])
    assert all(target.dtype == np.float32 for target in found.values())


def test_an_empty_horizon_gives_nothing() -> None:
    found = further_targets(log(), ("value", "rating"), np.array([0, 3]), np.zeros(2, np.bool_), 50, 60)
    assert found["value"].tolist() == [0, 0]
    assert np.isnan(found["rating"]).all()


@pytest.mark.parametrize(("head", "column"), [("value", 4), ("rating", 5)])
def test_a_head_that_the_log_cannot_teach_is_named(head: str, column: int) -> None:
    check_heads(log(), ("buys", head))
    bare = [(*event[:column], NAN, *event[column + 1 :]) for event in EVENTS]
    check_heads(log(bare), ("buys",))  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=f"ranker.heads.{head} is above 0, but no event has a {head}"):
        check_heads(log(bare), ("buys", head))  # type: ignore[arg-type]
