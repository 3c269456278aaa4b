"""The engine over the small shop's real generation: who gets a list, what may be in it, and what changes it."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest

from server.domain import (
    Answer,
    Query,
    RecommendAnswer,
    RecommendQuery,
    RepeatPolicy,
    ScoreAnswer,
    ScoreQuery,
    SimilarItemsAnswer,
    SimilarItemsQuery,
    Source,
    UnknownItem,
)
from server.engine import Engine
from server.serving_model import ServingModel
from tests.server.real_engine import (
    DAY_S,
    NOW_S,
    assert_same_answer,
    event,
    listed,
    one,
    purchases,
    recommend,
    score_as,
)
from towers.schema import Dataset

USERS = [f"u{number:02d}" for number in range(1, 31)]
EXCLUDE = RepeatPolicy.EXCLUDE_BOUGHT


def some_of_everything() -> list[Query]:
    """Every kind of query, every placement, known and unknown shoppers and items, in a fixed random order."""
    queries: list[Query] = []
    for place, user_id in enumerate([*USERS, "", "stranger"]):
        cart = ("shoes-1", "tents-2", "no-such-item")[: place % 4]
        fields: dict[str, Any] = {
            "page_size": 1 + place % 8,
            "repeat_policy": RepeatPolicy(1 + place % 2),
            "request_time_s": NOW_S - 5 * DAY_S * (place % 5),
            "exclude_item_ids": ("packs-1", "packs-2", "nothing")[: place % 3],
            "explain": place % 3 == 0,
            "context": {"device": ("phone", "desktop", "fridge")[place % 3]} if place % 2 else {},
        }
        queries.append(recommend(user_id, "home", **fields))
        queries.append(recommend(user_id, "product", context_item_ids=cart[-1:], **fields))
        queries.append(recommend(user_id, "cart", context_item_ids=cart, **fields))
        seen = tuple(event("stoves-1", kind, age_s=60 * place) for kind in ("view", "purchase", "stare")[: place % 4])
        placement = ("home", "product", "cart")[place % 3]
        asked = recommend(user_id, placement, recent_events=seen, context_item_ids=cart)
        queries.append(
            score_as(asked, ["shoes-1", "nothing", "new-tents", f"jackets-{1 + place % 8}"][: 1 + place % 4])
        )
        queries.append(SimilarItemsQuery(("tents-1", "new-shoes", "nothing")[place % 3], 1 + place % 20, cart))
    random.Random(1).shuffle(queries)
    return queries


def test_a_batch_answers_what_its_queries_get_alone(engine: Engine) -> None:
    queries = some_of_everything()
    together, timings = engine.answer(queries)
    assert timings.batch_size == len(queries) == 160
    assert len(together) == 160
    for query, answer in zip(queries, together, strict=True):
        assert_same_answer(answer, one(engine, query))


def test_mixed_kinds_are_answered_in_their_order(engine: Engine) -> None:
    kinds: dict[type, tuple[type[Answer], ...]] = {
        RecommendQuery: (RecommendAnswer,),
        ScoreQuery: (ScoreAnswer,),
        SimilarItemsQuery: (SimilarItemsAnswer, UnknownItem),
    }
    queries = some_of_everything()
    for query, answer in zip(queries, engine.answer(queries)[0], strict=True):
        assert isinstance(answer, kinds[type(query)])
        assert answer.generation_id == engine.generation_id
        if isinstance(query, RecommendQuery) and isinstance(answer, RecommendAnswer):
            assert len(answer.item_ids) == query.page_size
        if isinstance(query, ScoreQuery) and isinstance(answer, ScoreAnswer):
            assert len(answer.scores) == len(query.item_ids)


def test_no_query_gets_no_answer(engine: Engine) -> None:
    answers, timings = engine.answer([])
    assert answers == []
    assert timings.batch_size == 0


@pytest.mark.parametrize(
    "query",
    [
        recommend(),
        recommend("stranger"),
        recommend(visitor_id="cookie-7"),
        recommend("u01", request_time_s=1.0),
        recommend("stranger", recent_events=(event("no-such-item"), event("nor-this", "purchase"))),
        recommend("u01", recent_events=(event("shoes-1", "stare"),)),
        recommend("stranger", "product"),
        recommend("stranger", "product", context_item_ids=("no-such-item",)),
        recommend("stranger", "cart", context_item_ids=("no-such-item",)),
        recommend("stranger", context={"device": "fridge"}),
        recommend("u01", exclude_item_ids=("no-such-item",)),
    ],
    ids=lambda query: f"{query.placement} {query.shopper.user_id or query.shopper.visitor_id or 'nobody'}",
)
def test_everybody_gets_a_full_list(engine: Engine, serving: ServingModel, query: RecommendQuery) -> None:
    answer = listed(engine, query)
    assert len(set(answer.item_ids)) == len(answer.item_ids) == 8
    assert (serving.item_ids.rows(answer.item_ids) >= 0).all()
    assert not answer.shortfall
    assert answer.scores == sorted(answer.scores, reverse=True)
    assert all(0 < score < 1 for score in answer.scores)
    assert all(answer.sources)


def test_a_shopper_without_events_is_offered_what_is_popular_and_near_never_bought_again(engine: Engine) -> None:
    answer = listed(engine, recommend())
    assert all(bits | Source.TWO_TOWER | Source.POPULAR == Source.TWO_TOWER | Source.POPULAR for bits in answer.sources)


def test_what_was_bought_is_never_offered_where_the_policy_says_so(engine: Engine, small_dataset: Dataset) -> None:
    offered_again = 0
    for user_id in USERS:
        bought = purchases(small_dataset, user_id, NOW_S)
        allowed = listed(engine, recommend(user_id, "everything", page_size=43))
        hidden = listed(engine, recommend(user_id, "everything", page_size=43, repeat_policy=EXCLUDE))
        assert set(hidden.item_ids) == set(allowed.item_ids) - bought.keys()
        assert not any(bits & Source.BUY_AGAIN for bits in hidden.sources)
        offered_again += len(bought.keys() & set(allowed.item_ids))
    assert offered_again > 50


@pytest.mark.parametrize("user_id", ["u01", "stranger"])
def test_what_was_bought_a_moment_ago_is_not_offered_and_what_was_viewed_is(engine: Engine, user_id: str) -> None:
    favourite, second = listed(engine, recommend(user_id, repeat_policy=EXCLUDE)).item_ids[:2]
    seen = (event(favourite, "purchase"), event(second, "view"))
    answer = listed(engine, recommend(user_id, "everything", page_size=43, repeat_policy=EXCLUDE, recent_events=seen))
    assert favourite not in answer.item_ids
    assert second in answer.item_ids


def test_a_purchase_a_moment_in_the_future_counts_as_just_now(engine: Engine) -> None:
    ahead = event("shoes-1", "purchase", age_s=-200)
    answer = listed(
        engine, recommend(page_size=43, placement="everything", recent_events=(ahead,), repeat_policy=EXCLUDE)
    )
    assert "shoes-1" not in answer.item_ids
    assert len(answer.item_ids) == 42


def test_excluded_items_are_not_offered(engine: Engine) -> None:
    for user_id in ("u01", "stranger"):
        first = listed(engine, recommend(user_id))
        second = listed(engine, recommend(user_id, exclude_item_ids=tuple(first.item_ids)))
        assert len(second.item_ids) == 8
        assert not set(first.item_ids) & set(second.item_ids)


def test_a_page_that_the_catalogue_cannot_fill_says_so(engine: Engine, small_dataset: Dataset) -> None:
    item_ids = small_dataset.items["item_id"].to_list()
    assert len(item_ids) == 43
    everything = listed(engine, recommend("u01", "everything", page_size=43))
    assert sorted(everything.item_ids) == item_ids
    assert not everything.shortfall
    too_many = listed(engine, recommend("u01", "everything", page_size=44))
    assert len(too_many.item_ids) == 43
    assert too_many.shortfall
    two_left = listed(engine, recommend("u01", exclude_item_ids=tuple(item_ids[2:])))
    assert sorted(two_left.item_ids) == item_ids[:2]
    assert two_left.shortfall
    nothing = listed(engine, recommend("u01", exclude_item_ids=tuple(item_ids), explain=True))
    assert (nothing.item_ids, nothing.scores, nothing.sources, nothing.explanations) == ([], [], [], [])
    assert nothing.shortfall


@pytest.mark.parametrize("placement", ["product", "cart"])
def test_context_items_are_not_offered_where_they_count(engine: Engine, placement: str) -> None:
    home = listed(engine, recommend("u01"))
    chosen = tuple(home.item_ids[:3])
    answer = listed(engine, recommend("u01", placement, context_item_ids=chosen))
    assert not set(chosen) & set(answer.item_ids)
    assert len(answer.item_ids) == 8
    ignored = listed(engine, recommend("u01", "home", context_item_ids=chosen))
    assert ignored == home


def test_an_event_sent_along_changes_the_answer(engine: Engine) -> None:
    before = listed(engine, recommend("u01", "everything", page_size=43))
    viewed = listed(engine, recommend("u01", "everything", page_size=43, recent_events=(event("tents-3"),)))
    bought = listed(engine, recommend("u01", "everything", page_size=43, recent_events=(event("tents-3", "purchase"),)))
    scores = [dict(zip(answer.item_ids, answer.scores, strict=True)) for answer in (before, viewed, bought)]
    for left, right in ((0, 1), (0, 2), (1, 2)):
        assert max(abs(scores[left][item] - scores[right][item]) for item in scores[0]) > 1e-4


@pytest.mark.parametrize("placement", ["home", "product", "cart"])
@pytest.mark.parametrize("user_id", ["u03", "stranger"])
def test_score_gives_what_recommend_gives(engine: Engine, placement: str, user_id: str) -> None:
    query = recommend(
        user_id,
        placement,
        context_item_ids=("shoes-2",),
        recent_events=(event("packs-3"),),
        context={"device": "phone"},
    )
    answer = listed(engine, query)
    scored = one(engine, score_as(query, [*answer.item_ids, "no-such-item"]))
    assert isinstance(scored, ScoreAnswer)
    assert scored.known == [True] * 8 + [False]
    assert scored.scores == pytest.approx([*answer.scores, 0.0], abs=1e-6)


def test_an_item_that_no_source_brings_is_scored_all_the_same(engine: Engine, small_dataset: Dataset) -> None:
    item_ids = small_dataset.items["item_id"].to_list()
    scored = one(engine, score_as(recommend("u01"), item_ids))
    assert isinstance(scored, ScoreAnswer)
    assert all(scored.known)
    assert all(0 < score < 1 for score in scored.scores)


def test_a_request_as_of_the_past_sees_only_what_was_before_it(engine: Engine, small_dataset: Dataset) -> None:
    for user_id in USERS[:6]:
        times = sorted(time_s for item in purchases(small_dataset, user_id, NOW_S).values() for time_s in item)
        for as_of_s in (times[0], times[0] + 1, times[len(times) // 2], times[-1] + 1):
            query = recommend(user_id, "everything", page_size=43, request_time_s=float(as_of_s), explain=True)
            answer = listed(engine, query)
            seen = purchases(small_dataset, user_id, as_of_s)
            counted = {item for item, why in zip(answer.item_ids, answer.explanations, strict=True) if why.times_bought}
            assert counted == seen.keys()


def test_explanations_are_those_of_the_log(engine: Engine, serving: ServingModel, small_dataset: Dataset) -> None:
    for user_id in ("u01", "u02", "stranger"):
        bought = purchases(small_dataset, user_id, NOW_S)
        answer = listed(engine, recommend(user_id, "everything", page_size=43, explain=True))
        assert len(answer.explanations) == 43
        for item_id, bits, why in zip(answer.item_ids, answer.sources, answer.explanations, strict=True):
            times = bought.get(item_id, [])
            assert why.sources == bits
            assert bool(bits & Source.BUY_AGAIN) == bool(times)
            assert why.times_bought == len(set(times))
            assert why.days_since_bought == pytest.approx((NOW_S - times[-1]) / DAY_S if times else -1, abs=1e-3)
            assert -1.001 < why.similarity < 1.001
    nearest = [why.similarity for why in answer.explanations]
    assert np.std(nearest) > 0.01


def test_without_the_wish_nothing_is_explained(engine: Engine) -> None:
    assert listed(engine, recommend("u01")).explanations == ()


def test_a_device_counts_and_an_unknown_one_says_nothing(engine: Engine) -> None:
    answers = {
        device: listed(engine, recommend("u01", "everything", page_size=43, context=context, explain=True))
        for device, context in (
            ("none", {}),
            ("fridge", {"device": "fridge"}),
            ("phone", {"device": "phone"}),
            ("desktop", {"device": "desktop"}),
        )
    }
    assert answers["none"] == answers["fridge"]
    assert answers["phone"].scores != answers["desktop"].scores
    times = [
        {item: why.times_bought for item, why in zip(answer.item_ids, answer.explanations, strict=True)}
        for answer in answers.values()
    ]
    assert times[0] == times[1] == times[2] == times[3]


def test_the_engine_says_what_requests_may_carry(engine: Engine) -> None:
    assert engine.event_types == ("view", "click", "cart", "purchase", "rating")
    assert engine.context_columns == ("device",)
