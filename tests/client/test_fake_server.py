"""The fake server itself, as the tests of a service use it."""

from __future__ import annotations

import grpc
import pytest
from twinrank_client import Client, InternalError, NotFound, RecommendRequest, ScoreRequest, SimilarItemsRequest
from twinrank_client.testing import FakeServer


@pytest.mark.parametrize(
    ("request_", "expected"),
    [
        (RecommendRequest(user_id="1", placement="cart"), "user and placement"),
        (RecommendRequest(user_id="1", placement="product"), "user"),
        (RecommendRequest(visitor_id="1", placement="product"), "user"),
        (RecommendRequest(user_id="2", placement="cart"), "placement"),
        (RecommendRequest(user_id="2"), "home"),
        (RecommendRequest(user_id="2", placement="product"), "everybody"),
    ],
)
def test_the_most_particular_list_wins(twinrank_server: FakeServer, request_: RecommendRequest, expected: str) -> None:
    twinrank_server.give_recommendations(["everybody"])
    twinrank_server.give_recommendations(["home"], placement="home")
    twinrank_server.give_recommendations(["placement"], placement="cart")
    twinrank_server.give_recommendations(["user"], user_id="1")
    twinrank_server.give_recommendations(["user and placement"], user_id="1", placement="cart")
    with Client(twinrank_server.target) as client:
        assert client.recommend(request_).item_ids == (expected,)


def test_page_size_and_exclusions_are_honoured(twinrank_server: FakeServer) -> None:
    twinrank_server.give_recommendations(["a", "b", "c", "d"])
    with Client(twinrank_server.target) as client:
        answer = client.recommend(RecommendRequest(page_size=2, exclude_item_ids=["b"]))
    assert answer.item_ids == ("a", "c")
    assert answer.scores[0] > answer.scores[1]


def test_scores_of_a_shopper_hide_everybodys(twinrank_server: FakeServer) -> None:
    twinrank_server.give_scores({"milk": 0.5})
    twinrank_server.give_scores({"bread": 0.25}, user_id="1")
    with Client(twinrank_server.target) as client:
        mine = client.score(ScoreRequest(item_ids=["milk", "bread"], user_id="1"))
        others = client.score(ScoreRequest(item_ids=["milk", "bread"], user_id="2"))
    assert (mine.known, others.known) == ((False, True), (True, False))


def test_a_failure_may_be_of_one_rpc_and_for_some_times(twinrank_server: FakeServer) -> None:
    twinrank_server.fail(grpc.StatusCode.INTERNAL, rpc="Recommend", times=2)
    twinrank_server.fail(grpc.StatusCode.NOT_FOUND, rpc="Recommend", times=1)
    twinrank_server.give_similar_items("milk", ["cream"])
    with Client(twinrank_server.target) as client:
        assert client.similar_items(SimilarItemsRequest("milk")).item_ids == ("cream",)
        for expected in (InternalError, InternalError, NotFound):
            with pytest.raises(expected):
                client.recommend(RecommendRequest())
        client.recommend(RecommendRequest())


def test_reset_forgets_everything(twinrank_server: FakeServer) -> None:
    twinrank_server.give_recommendations(["milk"])
    twinrank_server.fail(grpc.StatusCode.INTERNAL)
    with Client(twinrank_server.target) as client:
        with pytest.raises(InternalError):
            client.recommend(RecommendRequest())
        twinrank_server.reset()
        assert client.recommend(RecommendRequest()).item_ids == ()
    assert twinrank_server.requests == [RecommendRequest()]


def test_a_lone_string_is_no_list_of_items(twinrank_server: FakeServer) -> None:
    with pytest.raises(TypeError, match="'milk'"):
        twinrank_server.give_recommendations("milk")


def test_two_fakes_do_not_share_a_port() -> None:
    with FakeServer() as one, FakeServer() as other:
        assert one.target != other.target
