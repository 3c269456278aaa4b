"""Filters through the engine and over gRPC, on the small shop: k items that fit or an explicit shortfall."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import polars as pl
import pytest
from twinrank.v1 import filter_pb2
from twinrank.v1 import recommendation_pb2 as pb

from index.filters import AllOf, AnyOf, AttributeKind, Available, Equals, Expression, In, Not, Range
from index.generation import open_generation
from server.domain import (
    FilterRefused,
    RecommendQuery,
    RepeatPolicy,
    SimilarItemsAnswer,
    SimilarItemsQuery,
)
from server.engine import Engine
from server.fitness import CATALOGUE_FILE
from server.model import GenerationFiles, load_engine, open_serving_model
from server.serving_model import ServingModel
from tests.conftest import SmallGeneration
from tests.server.conftest import Running, make_config, serve
from tests.server.real_engine import PLACEMENTS, assert_same_answer, listed, one, recommend
from tests.server.statuses import fields_of
from towers.recommender import Recommender, UserEmbedder

USERS = ["u01", "u07", "u15", "u30", "", "stranger"]
SHOES = Equals("category", "shoes")
FILTERS: dict[str, tuple[Expression, Callable[[dict[str, Any]], bool]]] = {
    "equals": (SHOES, lambda item: item["category"] == "shoes"),
    "in": (In("category", ("tents", "packs")), lambda item: item["category"] in ("tents", "packs")),
    "range": (Range("price", 50, 120), lambda item: 50 <= item["price"] <= 120),
    "all": (
        AllOf((SHOES, Range("price", None, 100))),
        lambda item: item["category"] == "shoes" and item["price"] <= 100,
    ),
    "any": (
        AnyOf((Equals("brand", "Fjell"), Range("price", 200))),
        lambda item: item["brand"] == "Fjell" or item["price"] >= 200,
    ),
    "not": (AllOf((Not(SHOES), Available())), lambda item: item["category"] != "shoes"),
    "nothing": (Equals("category", "cars"), lambda item: False),
    "everything": (AllOf(()), lambda item: True),
}


@pytest.fixture(scope="module")
def catalogue(small_generation: SmallGeneration, serving: ServingModel) -> dict[str, dict[str, Any]]:
    """The items that may be recommended, by id, as the generation's catalogue has them."""
    path = open_generation(small_generation.root, small_generation.generation_id).path(CATALOGUE_FILE)
    rows = pl.read_parquet(path).to_dicts()
    shown = serving.snapshot.items.retrievable[: len(rows)]  # what is behind them is spare
    return {row["item_id"]: row for row, is_shown in zip(rows, shown, strict=True) if is_shown}


def fitting(catalogue: dict[str, dict[str, Any]], name: str) -> set[str]:
    return {item_id for item_id, item in catalogue.items() if FILTERS[name][1](item)}


@pytest.mark.parametrize("name", FILTERS)
@pytest.mark.parametrize("placement", ["home", "product", "cart"])
def test_k_items_that_fit_or_a_shortfall(
    engine: Engine, catalogue: dict[str, dict[str, Any]], name: str, placement: str
) -> None:
    fit, left_out = fitting(catalogue, name), ("shoes-1", "tents-2", "jackets-3")
    for user_id in USERS:
        context = ("shoes-2", "packs-1")
        query = recommend(
            user_id, placement, filter=FILTERS[name][0], exclude_item_ids=left_out, context_item_ids=context
        )
        answer = listed(engine, query)
        may = fit - set(left_out) - (set(context) if placement != "home" else set())
        assert set(answer.item_ids) <= may
        assert len(set(answer.item_ids)) == len(answer.item_ids) == min(query.page_size, len(may))
        assert answer.shortfall == (len(may) < query.page_size)


def test_a_filter_that_is_wider_than_the_sources_fills_the_page(
    serving: ServingModel, catalogue: dict[str, dict[str, Any]]
) -> None:
    """Where popular items alone are to fill a page, and too few of them fit, the two towers fill it."""
    few = {"two_tower": 0, "buy_again": 1, "popular": 3, "similar": 0}
    engine = Engine(serving, {"home": PLACEMENTS["home"].model_copy(update={"candidates": few, "page_size_max": 3})})
    for name in FILTERS:
        answer = listed(engine, recommend("u01", filter=FILTERS[name][0], page_size=30))
        assert len(answer.item_ids) == min(30, len(fitting(catalogue, name))), name
    assert len(listed(engine, recommend("u01", page_size=30)).item_ids) <= 4


def test_what_was_bought_and_does_not_fit_is_not_shown_and_makes_no_gap(
    engine: Engine, catalogue: dict[str, dict[str, Any]]
) -> None:
    for policy in RepeatPolicy:
        for user_id in USERS:
            query = recommend(user_id, "everything", filter=SHOES, page_size=100, repeat_policy=policy)
            plain = recommend(user_id, "everything", page_size=100, repeat_policy=policy)
            shown = set(listed(engine, plain).item_ids) & fitting(catalogue, "equals")
            assert set(listed(engine, query).item_ids) >= shown


def test_a_batch_of_many_filters_answers_what_its_queries_get_alone(engine: Engine) -> None:
    queries: list[RecommendQuery | SimilarItemsQuery] = []
    for place, (expression, _) in enumerate(3 * list(FILTERS.values())):
        for placement in ("home", "product", "cart"):
            fields: dict[str, Any] = {"filter": expression if place % 4 else None, "page_size": 1 + place % 8}
            fields["exclude_item_ids"] = ("packs-1", "shoes-1")[: place % 3]
            queries.append(recommend(USERS[place % 6], placement, context_item_ids=("tents-1",), **fields))
        queries.append(SimilarItemsQuery("tents-1", 4, ("tents-2",), expression if place % 3 else None))
    random.Random(1).shuffle(queries)
    together, _ = engine.answer(queries)
    for query, answer in zip(queries, together, strict=True):
        assert_same_answer(answer, one(engine, query))


def test_a_filter_changes_no_score(engine: Engine) -> None:
    """The same item for the same shopper, whether others are left out or not: but for the sources that brought it."""
    for user_id in USERS:
        plain = listed(engine, recommend(user_id, "everything", page_size=100))
        narrow = listed(engine, recommend(user_id, "everything", page_size=100, filter=SHOES))
        every = dict(zip(plain.item_ids, zip(plain.scores, plain.sources, strict=True), strict=True))
        same = [
            (score, every[item_id][0])
            for item_id, score, source in zip(narrow.item_ids, narrow.scores, narrow.sources, strict=True)
            if item_id in every and every[item_id][1] == source
        ]
        assert same
        assert [one for one, _ in same] == pytest.approx([other for _, other in same], abs=1e-5)


@pytest.mark.parametrize("name", FILTERS)
def test_similar_items_that_fit_are_the_nearest_of_these(
    engine: Engine, serving: ServingModel, catalogue: dict[str, dict[str, Any]], name: str
) -> None:
    vectors = serving.snapshot.items.vectors[: len(serving.item_ids)].astype(np.float64)
    ids = serving.item_ids.ids(np.arange(len(vectors)))
    cosines = dict(zip(ids, vectors @ vectors[ids.index("tents-8")], strict=True))
    may = fitting(catalogue, name) - {"tents-8", "tents-1"}
    answer = one(engine, SimilarItemsQuery("tents-8", 5, ("tents-1",), FILTERS[name][0]))
    assert isinstance(answer, SimilarItemsAnswer)
    assert answer.item_ids == sorted(may, key=lambda item_id: -cosines[item_id])[:5]


def test_rows_taken_off_while_serving_come_from_no_source(serving: ServingModel) -> None:
    retrievable = serving.snapshot.items.retrievable.copy()
    items = replace(serving.snapshot.items, retrievable=retrievable)
    live = replace(
        serving,
        snapshot=replace(serving.snapshot, items=items),
        recommender=Recommender(
            UserEmbedder(serving.model.user_tower, items.vectors, 12),
            serving.model.ranker,
            items,
            serving.snapshot.item_part,
            serving.searcher,
        ),
    )
    engine = Engine(live, PLACEMENTS)
    query = recommend("u01", "product", context_item_ids=("shoes-2",), page_size=8)
    before = listed(engine, query).item_ids
    retrievable[serving.item_ids.rows(before)] = False
    after = listed(engine, query)
    assert not set(after.item_ids) & set(before)
    narrow = listed(engine, query._replace(filter=Not(Equals("brand", "Fjell"))))
    assert narrow.item_ids
    assert not set(narrow.item_ids) & set(before)


def test_a_filter_of_another_generation_s_attributes_is_refused_alone(engine: Engine) -> None:
    good = recommend("u01", filter=SHOES)
    unknown = Not(Equals("size", "L"))
    found, _ = engine.answer(
        [good, recommend("u01", filter=unknown), SimilarItemsQuery("tents-1", 3, (), Range("x", 1))]
    )
    assert_same_answer(found[0], one(engine, good))
    assert isinstance(found[1], FilterRefused)
    assert found[1].field == "filter.negation.filter.equals.attribute"
    assert "brand (categorical), category (categorical)" in found[1].description
    assert isinstance(found[2], FilterRefused)
    assert found[2].field == "filter.range.attribute"


class _WithoutAttributes:
    """A generation as it was made before there were filters."""

    def __init__(self, files: GenerationFiles) -> None:
        self._files = files
        self.id = files.id
        self.names = [name for name in files.names if not name.startswith("attributes.")]

    def path(self, name: str) -> Path:
        assert name in self.names
        return self._files.path(name)


def without_attributes(small_generation: SmallGeneration) -> _WithoutAttributes:
    return _WithoutAttributes(open_generation(small_generation.root, small_generation.generation_id))


def test_a_generation_without_attributes_serves_and_refuses_filters(
    small_generation: SmallGeneration, engine: Engine
) -> None:
    old = Engine(open_serving_model(without_attributes(small_generation)), PLACEMENTS)
    assert old.attributes is None
    plain = recommend("u01")
    (answer, refused), _ = old.answer([plain, recommend("u01", filter=SHOES)])
    assert_same_answer(answer, one(engine, plain))
    assert isinstance(refused, FilterRefused)
    assert "no attributes" in refused.description


def test_the_engine_names_its_attributes(engine: Engine) -> None:
    text, number = AttributeKind.CATEGORICAL, AttributeKind.NUMERIC
    assert engine.attributes == {
        "category": text, "brand": text, "colour": text, "price": number, "title": AttributeKind.TEXT
    }  # fmt: skip


def equals(attribute: str, text: str) -> filter_pb2.Filter:
    value = filter_pb2.AttributeValue(text=text)
    return filter_pb2.Filter(equals=filter_pb2.EqualsFilter(attribute=attribute, value=value))


def cheap_shoes() -> filter_pb2.Filter:
    price = filter_pb2.Filter(range=filter_pb2.RangeFilter(attribute="price", maximum=100))
    value = filter_pb2.AttributeValue(text="tents")
    tents = filter_pb2.Filter(is_in=filter_pb2.InFilter(attribute="category", values=[value]))
    not_tents = filter_pb2.Filter(negation=filter_pb2.NotFilter(filter=tents))
    either = filter_pb2.Filter(any=filter_pb2.AnyFilter(filters=[equals("category", "shoes"), tents]))
    parts = [either, not_tents, price, filter_pb2.Filter(available=True)]
    return filter_pb2.Filter(all=filter_pb2.AllFilter(filters=parts))


async def test_filters_over_grpc(small_service: Running, catalogue: dict[str, dict[str, Any]]) -> None:
    fit = fitting(catalogue, "all")
    for user_id in USERS:
        answer = await small_service.stub.Recommend(
            pb.RecommendRequest(user_id=user_id, page_size=3, filter=cheap_shoes())
        )
        assert set(answer.item_ids) <= fit
        assert len(answer.item_ids) == min(3, len(fit))
        assert answer.degraded == (len(fit) < 3)
    answer = await small_service.stub.Recommend(pb.RecommendRequest(page_size=50, filter=cheap_shoes()))
    assert set(answer.item_ids) == fit
    assert answer.degraded
    assert answer.degraded_reason == pb.DEGRADED_REASON_SHORTFALL
    similar = await small_service.stub.SimilarItems(
        pb.SimilarItemsRequest(item_id="tents-1", page_size=50, filter=cheap_shoes())
    )
    assert set(similar.item_ids) == fit


async def test_wrong_filters_over_grpc_are_named(small_service: Running) -> None:
    wrong = filter_pb2.Filter(all=filter_pb2.AllFilter(filters=[equals("category", "shoes"), equals("size", "L")]))
    with pytest.raises(grpc.aio.AioRpcError) as failure:
        await small_service.stub.Recommend(pb.RecommendRequest(filter=wrong))
    assert failure.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert fields_of(failure.value) == ["filter.all.filters[1].equals.attribute"]
    batch = pb.BatchRecommendRequest(requests=[pb.RecommendRequest(), pb.RecommendRequest(filter=wrong)])
    with pytest.raises(grpc.aio.AioRpcError) as failure:
        await small_service.stub.BatchRecommend(batch)
    assert fields_of(failure.value) == ["requests[1].filter.all.filters[1].equals.attribute"]
    with pytest.raises(grpc.aio.AioRpcError) as failure:
        await small_service.stub.SimilarItems(pb.SimilarItemsRequest(item_id="tents-1", filter=filter_pb2.Filter()))
    assert fields_of(failure.value) == ["filter"]


async def test_a_generation_without_attributes_says_so_over_grpc(small_generation: SmallGeneration) -> None:
    config = make_config(small_generation.root)

    def load(root: Path, generation_id: str) -> Engine:
        return load_engine(without_attributes(small_generation), config.placements)

    async with serve(config, load) as running:
        assert (await running.stub.Recommend(pb.RecommendRequest())).item_ids
        with pytest.raises(grpc.aio.AioRpcError) as failure:
            await running.stub.Recommend(pb.RecommendRequest(filter=cheap_shoes()))
        assert failure.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert fields_of(failure.value) == ["filter"]
        assert "index rebuild" in (failure.value.details() or "")


async def test_a_filter_that_the_answering_generation_cannot_be_asked_is_the_caller_s_to_see(running: Running) -> None:
    """Decoded for one generation, answered by the next, which has other attributes."""
    running.engine.broken_answer = FilterRefused(
        "filter.equals.attribute", "'category' is no attribute", "generation-2"
    )
    with pytest.raises(grpc.aio.AioRpcError) as failure:
        await running.stub.Recommend(pb.RecommendRequest(filter=equals("category", "shoes")))
    assert failure.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert fields_of(failure.value) == ["filter.equals.attribute"]
    with pytest.raises(grpc.aio.AioRpcError) as failure:
        await running.stub.SimilarItems(pb.SimilarItemsRequest(item_id="x", filter=equals("category", "shoes")))
    assert fields_of(failure.value) == ["filter.equals.attribute"]
