"""The example's unit test: how a service that uses the SDK tests itself, without a Twinrank server."""

from __future__ import annotations

import time
from collections.abc import Iterator

import grpc
import pytest
from twinrank_client import Client, InvalidRequest, RecentEvent, RecommendRequest
from twinrank_client.testing import FakeServer

from client.examples.product_page import ProductPage, Strips

BESTSELLERS = ["banana", "milk", "bread"]
FALLBACK = Strips(similar=(), recommended=("banana", "bread"), personal=False)


@pytest.fixture
def page(twinrank_server: FakeServer) -> Iterator[ProductPage]:
    twinrank_server.give_similar_items("milk", ["oat milk", "cream"])
    twinrank_server.give_recommendations(["cereal", "cocoa"], placement="product")
    with Client(twinrank_server.target) as twinrank:
        yield ProductPage(twinrank, BESTSELLERS, budget_s=5.0)


def test_both_strips_come_from_twinrank(page: ProductPage) -> None:
    strips = page.strips("milk", user_id="7")
    assert strips.similar == ("oat milk", "cream")
    assert strips.recommended == ("cereal", "cocoa")
    assert strips.personal
    assert strips.attribution_token


def test_the_page_view_itself_is_sent_along(page: ProductPage, twinrank_server: FakeServer) -> None:
    page.strips("milk", user_id="7")
    request = twinrank_server.requests[0]
    assert isinstance(request, RecommendRequest)
    assert request.recent_events == (RecentEvent("milk", "view"),)
    assert request.context_item_ids == ("milk",)
    assert (request.user_id, request.placement) == ("7", "product")


def test_an_item_that_twinrank_does_not_know_yet_has_no_similar_strip(page: ProductPage) -> None:
    assert page.strips("brand new").similar == ()
    assert page.strips("brand new").recommended == ("cereal", "cocoa")


@pytest.mark.parametrize("code", [grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED])
def test_bestsellers_stand_in_when_twinrank_does_not_answer(
    page: ProductPage, twinrank_server: FakeServer, code: grpc.StatusCode
) -> None:
    twinrank_server.fail(code)
    assert page.strips("milk") == FALLBACK


def test_bestsellers_stand_in_when_twinrank_is_gone(page: ProductPage, twinrank_server: FakeServer) -> None:
    twinrank_server.stop()
    assert page.strips("milk") == FALLBACK


def test_a_late_answer_is_not_waited_for(twinrank_server: FakeServer) -> None:
    twinrank_server.delay(30)
    began_s = time.monotonic()
    with Client(twinrank_server.target) as twinrank:
        assert ProductPage(twinrank, BESTSELLERS, budget_s=0.05).strips("milk") == FALLBACK
    assert time.monotonic() - began_s < 10


def test_a_failing_similar_strip_leaves_the_other(page: ProductPage, twinrank_server: FakeServer) -> None:
    twinrank_server.fail(grpc.StatusCode.UNAVAILABLE, rpc="SimilarItems")
    assert page.strips("milk") == Strips((), ("cereal", "cocoa"), True, page.strips("milk").attribution_token)


def test_a_bug_of_the_page_is_not_hidden(page: ProductPage, twinrank_server: FakeServer) -> None:
    twinrank_server.fail(grpc.StatusCode.INVALID_ARGUMENT, fields={"placement": "unknown"})
    with pytest.raises(InvalidRequest, match="placement"):
        page.strips("milk")
