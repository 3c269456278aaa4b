"""Filters: how they are built, and that they arrive as they were meant."""

from __future__ import annotations

import pytest
from twinrank_client import (
    AllOf,
    AnyOf,
    Available,
    Client,
    Equals,
    Filter,
    IsIn,
    Not,
    Range,
    RecommendRequest,
    SimilarItemsRequest,
)
from twinrank_client.testing import FakeServer

DAIRY, CHEAP = Equals("department", "DAIRY"), Range("price", maximum=5.0)


@pytest.mark.parametrize(
    "condition",
    [
        DAIRY,
        Equals("size", 2.5),
        IsIn("brand", ["Private", "National"]),
        IsIn("size", [1.0, 2.0]),
        CHEAP,
        Range("price", 1.0, 5.0),
        AllOf([]),
        AnyOf([]),
        Not(DAIRY),
        Available(),
        Available(available=False),
        (DAIRY & CHEAP) | ~IsIn("brand", ["x"]) | Available(),
    ],
)
def test_a_filter_arrives(twinrank_server: FakeServer, condition: Filter) -> None:
    twinrank_server.give_similar_items("milk", ["cream"])
    with Client(twinrank_server.target) as client:
        client.recommend(RecommendRequest(filter=condition))
        client.similar_items(SimilarItemsRequest("milk", filter=condition))
    assert twinrank_server.requests == [
        RecommendRequest(filter=condition),
        SimilarItemsRequest("milk", filter=condition),
    ]


def test_operators_build_flat_chains_and_double_negation_is_none() -> None:
    assert DAIRY & CHEAP & Available() == AllOf([DAIRY, CHEAP, Available()])
    assert DAIRY | CHEAP | Available() == AnyOf([DAIRY, CHEAP, Available()])
    assert ~~DAIRY == DAIRY
    assert DAIRY & (CHEAP | Available()) == AllOf([DAIRY, AnyOf([CHEAP, Available()])])


def test_mistakes_are_seen_before_a_call() -> None:
    with pytest.raises(TypeError, match="must be a str or a number, not bool"):
        Equals("organic", True)
    with pytest.raises(TypeError, match="not one string"):
        IsIn("brand", "Private")
    with pytest.raises(ValueError, match="needs a minimum, a maximum or both"):
        Range("price")
    with pytest.raises(TypeError, match="a filter must be one of"):
        DAIRY & "CHEAP"  # type: ignore[operator]
    with pytest.raises(TypeError, match="a filter must be one of"):
        Not("DAIRY")  # type: ignore[arg-type]
