"""Similar items, product pages and carts, against brute force over the generation's vectors."""

from __future__ import annotations

import numpy as np
import pytest

from server.domain import SimilarItemsAnswer, SimilarItemsQuery, Source, UnknownItem
from server.engine import Engine
from server.serving_model import ServingModel
from tests.server.real_engine import event, listed, one, recommend


def brute_force(serving: ServingModel, item_id: str) -> list[tuple[str, float]]:
    """Every other item with its cosine, nearest first."""
    vectors = serving.snapshot.items.vectors[: serving.snapshot.item_count].astype(np.float64)
    item_ids = serving.item_ids.ids(np.arange(len(vectors)))
    cosines = vectors @ vectors[item_ids.index(item_id)]
    others = [(other, float(cosine)) for other, cosine in zip(item_ids, cosines, strict=True) if other != item_id]
    return sorted(others, key=lambda pair: -pair[1])


def similar(engine: Engine, item_id: str, page_size: int = 5, exclude: tuple[str, ...] = ()) -> SimilarItemsAnswer:
    answer = one(engine, SimilarItemsQuery(item_id, page_size, exclude))
    assert isinstance(answer, SimilarItemsAnswer)
    return answer


@pytest.mark.parametrize("item_id", ["shoes-1", "tents-8", "new-jackets"])
def test_similar_items_are_the_nearest_others(engine: Engine, serving: ServingModel, item_id: str) -> None:
    answer = similar(engine, item_id)
    nearest = brute_force(serving, item_id)[:5]
    assert answer.item_ids == [other for other, _ in nearest]
    assert answer.scores == pytest.approx([cosine for _, cosine in nearest], abs=1e-5)
    assert answer.generation_id == engine.generation_id


def test_excluded_neighbours_make_room_for_the_next(engine: Engine, serving: ServingModel) -> None:
    nearest = [other for other, _ in brute_force(serving, "packs-2")]
    answer = similar(engine, "packs-2", 5, (nearest[0], nearest[3], "no-such-item", "packs-2"))
    assert answer.item_ids == [nearest[1], nearest[2], nearest[4], nearest[5], nearest[6]]


def test_a_page_larger_than_the_catalogue_holds_all_other_items(engine: Engine) -> None:
    answer = similar(engine, "shoes-1", 200)
    assert len(set(answer.item_ids)) == 42
    assert "shoes-1" not in answer.item_ids


def test_an_unknown_item_is_an_outcome_of_its_own_and_no_failure_of_the_batch(engine: Engine) -> None:
    known, unknown = SimilarItemsQuery("shoes-1", 3), SimilarItemsQuery("no-such-item", 3)
    answers, _ = engine.answer([unknown, known, unknown])
    assert answers == [
        UnknownItem("no-such-item", engine.generation_id),
        one(engine, known),
        UnknownItem("no-such-item", engine.generation_id),
    ]


def test_a_product_page_shows_the_neighbours_of_its_item(engine: Engine, serving: ServingModel) -> None:
    nearest = [other for other, _ in brute_force(serving, "tents-1")]
    answer = listed(engine, recommend("u01", "product", context_item_ids=("tents-1",)))
    assert set(answer.sources) == {Source.SIMILAR}
    depth = serving.model.settings.candidates.similar + serving.model.settings.candidates.two_tower
    assert set(answer.item_ids) <= set(nearest[:depth])
    assert depth == 20


def test_a_product_page_of_an_unknown_item_is_answered_as_the_home_page(engine: Engine) -> None:
    home = listed(engine, recommend("u01"))
    assert listed(engine, recommend("u01", "product", context_item_ids=("no-such-item",))) == home
    assert listed(engine, recommend("u01", "product")) == home


def test_a_cart_brings_neighbours_beside_the_other_sources(engine: Engine) -> None:
    chosen = ("stoves-1", "stoves-2")
    home = listed(engine, recommend("u01"))
    answer = listed(engine, recommend("u01", "cart", context_item_ids=chosen))
    bits = Source.NONE
    for source in answer.sources:
        bits |= source
    assert Source.SIMILAR in bits
    assert bits != Source.SIMILAR
    assert answer.scores != home.scores
    assert listed(engine, recommend("u01", "cart")) == home


def test_being_in_the_cart_is_not_being_bought(engine: Engine) -> None:
    in_cart = listed(engine, recommend(placement="cart", context_item_ids=("stoves-1",), explain=True))
    bought = listed(
        engine,
        recommend(placement="everything", page_size=43, recent_events=(event("stoves-1", "purchase"),), explain=True),
    )
    assert all(why.times_bought == 0 for why in in_cart.explanations)
    assert bought.explanations[bought.item_ids.index("stoves-1")].times_bought == 1
