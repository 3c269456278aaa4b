from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from twinrank.v1 import recommendation_pb2 as pb

from client.load.shoppers import draw_zipf, read_user_ids, serialise_requests


def test_users_are_read_one_a_line(tmp_path: Path) -> None:
    path = tmp_path / "users.txt"
    path.write_text("7\n\n  12 \n3\n")
    assert read_user_ids(path) == ["7", "12", "3"]


def test_a_file_without_users_is_named(tmp_path: Path) -> None:
    path = tmp_path / "nobody.txt"
    path.write_text("\n \n")
    with pytest.raises(ValueError, match=r"nobody\.txt names no user"):
        read_user_ids(path)


def test_the_draw_follows_zipfs_law() -> None:
    counts = Counter(draw_zipf(population=100, count=100_000, exponent=1.0, seed=3))
    # Weights 1, 1/2, 1/3, … sum to 5.187 over 100 ranks.
    for rank in (0, 1, 3, 9):
        assert counts[rank] == pytest.approx(100_000 / 5.187 / (rank + 1), rel=0.06)


def test_exponent_zero_draws_everybody_alike() -> None:
    counts = Counter(draw_zipf(population=4, count=40_000, exponent=0.0, seed=3))
    assert all(count == pytest.approx(10_000, rel=0.05) for count in counts.values())


def test_requests_are_serialised_in_the_order_of_the_draw() -> None:
    requests = serialise_requests(["a", "b", "c"], [2, 0, 2], "cart", 5)
    read = [pb.RecommendRequest.FromString(request) for request in requests]
    assert [(message.user_id, message.placement, message.page_size) for message in read] == [
        ("c", "cart", 5),
        ("a", "cart", 5),
        ("c", "cart", 5),
    ]
    assert requests[0] is requests[2]
