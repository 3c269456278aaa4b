"""The real engine over the small shop: how it is loaded, and what its tests know of the shop without it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np

from index.generation import open_generation
from server.config import ContextItems, PlacementConfig, ServerConfig
from server.domain import (
    Answer,
    RecentEvent,
    RecommendAnswer,
    RecommendQuery,
    RepeatPolicy,
    ScoreAnswer,
    ScoreQuery,
    Shopper,
    SimilarItemsAnswer,
)
from server.engine import Engine
from server.model import load_engine
from towers.schema import Dataset

PLACEMENTS = {
    "home": PlacementConfig(page_size=8, page_size_max=8),
    "product": PlacementConfig(page_size=8, page_size_max=8, context_items=ContextItems.SEED),
    "cart": PlacementConfig(page_size=8, page_size_max=8, context_items=ContextItems.CART),
    "everything": PlacementConfig(page_size_max=100),
}
"""Pages small enough that the sources bring different items; `everything` has room for the whole catalogue."""
NOW_S = 1_793_700_000.0
"""2026-11-03, some days after the small shop's last event."""
DAY_S = 86_400


def loader(config: ServerConfig) -> Callable[[Path, str], Engine]:
    """The loader of `python -m server`."""
    return lambda root, generation_id: load_engine(open_generation(root, generation_id), config.placements)


def recommend(user_id: str = "", placement: str = "home", **fields: Any) -> RecommendQuery:
    """A query for 8 items, now; fields of Shopper and of RecommendQuery by name."""
    whose = {name: fields.pop(name) for name in list(fields) if name in Shopper._fields}
    defaults = {"request_time_s": NOW_S, "page_size": 8, "repeat_policy": RepeatPolicy.ALLOW}
    return RecommendQuery(placement=placement, shopper=Shopper(user_id=user_id, **whose), **{**defaults, **fields})


def score_as(query: RecommendQuery, item_ids: Sequence[str]) -> ScoreQuery:
    """The same shopper, placement and time, for given items."""
    return ScoreQuery(query.placement, query.shopper, query.request_time_s, tuple(item_ids))


def event(item_id: str, event_type: str = "view", age_s: float = 60.0) -> RecentEvent:
    """Something that was done a moment ago."""
    return RecentEvent(item_id, event_type, NOW_S - age_s)


def listed(engine: Engine, query: RecommendQuery) -> RecommendAnswer:
    """The answer to one query."""
    return cast(RecommendAnswer, one(engine, query))


def one(engine: Engine, query: Any) -> Answer:
    """The answer to one query of any kind."""
    [answer], _ = engine.answer([query])
    return answer


def purchases(dataset: Dataset, user_id: str, before_s: float) -> dict[str, list[int]]:
    """What the user bought before the moment, from the dataset itself: times of each item, oldest first."""
    item_ids, user_ids = dataset.items["item_id"].to_list(), dataset.users["user_id"].to_list()
    target = dataset.meta.event_types.index("purchase")
    bought: dict[str, list[int]] = {}
    events = dataset.events
    for user, item, kind, time_s in zip(
        events.user_row, events.item_row, events.event_type, events.time_s, strict=True
    ):
        if user_ids[user] == user_id and kind == target and time_s < before_s:
            bought.setdefault(item_ids[item], []).append(int(time_s))
    return bought


def assert_same_answer(found: Answer, expected: Answer) -> None:
    """The same items with scores within 1e-5; items of equal score may change places or fall off the end."""
    assert type(found) is type(expected)
    if isinstance(found, ScoreAnswer) and isinstance(expected, ScoreAnswer):
        assert found.known == expected.known
        np.testing.assert_allclose(found.scores, expected.scores, atol=1e-5)
    elif isinstance(found, RecommendAnswer | SimilarItemsAnswer):
        other = cast(RecommendAnswer | SimilarItemsAnswer, expected)
        np.testing.assert_allclose(found.scores, other.scores, atol=1e-5)
        last = other.scores[-1] if other.scores else 0.0
        of, of_other = (
            dict(zip(found.item_ids, found.scores, strict=True)),
            dict(zip(other.item_ids, other.scores, strict=True)),
        )
        for item_id in of.keys() | of_other.keys():
            assert abs(of.get(item_id, last) - of_other.get(item_id, last)) <= 1e-5, item_id
        if isinstance(found, RecommendAnswer):
            assert found.shortfall == cast(RecommendAnswer, expected).shortfall
            assert len(found.explanations) == len(cast(RecommendAnswer, expected).explanations)
    else:
        assert found == expected
