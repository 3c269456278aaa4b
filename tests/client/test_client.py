"""What only the blocking client does."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

from twinrank_client import Client, RecommendRequest
from twinrank_client.testing import FakeServer


def test_threads_share_a_client(twinrank_server: FakeServer) -> None:
    for number in range(8):
        twinrank_server.give_recommendations([f"item-{number}"], user_id=str(number))
    with Client(twinrank_server.target, timeout_s=10, channel_count=2) as client, ThreadPoolExecutor(8) as pool:
        requests = [RecommendRequest(user_id=str(number % 8)) for number in range(80)]
        answers = list(pool.map(client.recommend, requests))
    assert [answer.item_ids for answer in answers] == [(f"item-{number % 8}",) for number in range(80)]


def test_leaving_a_stream_early_lets_its_requests_go(twinrank_server: FakeServer) -> None:
    left = threading.Event()

    def requests() -> Iterator[RecommendRequest]:
        try:
            number = 0
            while not left.is_set():
                yield RecommendRequest(request_id=str(number))
                number += 1
        finally:
            left.set()

    with Client(twinrank_server.target) as client:
        answers = client.stream_recommend(requests())
        assert next(answers).request_id == "0"
        answers.close()
        assert left.wait(10)


def test_answers_stream_while_requests_are_still_to_come(twinrank_server: FakeServer) -> None:
    answered = threading.Event()

    def requests() -> Iterator[RecommendRequest]:
        yield RecommendRequest(request_id="first")
        assert answered.wait(10)
        yield RecommendRequest(request_id="second")

    with Client(twinrank_server.target) as client:
        answers = client.stream_recommend(requests())
        assert next(answers).request_id == "first"
        answered.set()
        assert [answer.request_id for answer in answers] == ["second"]
