"""Who asks: shoppers from a file, drawn as shops see them (few often, many seldom), their requests serialised ahead."""

from __future__ import annotations

import itertools
import random
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from twinrank_client import RecommendRequest
from twinrank_client.conversion import write_recommend

USER_COUNT_MAX = 1_000_000


def read_user_ids(path: Path) -> list[str]:
    """The user ids of a text file, one a line; blank lines are passed over. Raises ValueError that names the file."""
    user_ids = [line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    if not user_ids:
        raise ValueError(f"{path} names no user: it must hold one user_id a line")
    if len(user_ids) > USER_COUNT_MAX:
        raise ValueError(f"{path} names {len(user_ids):,} users, more than {USER_COUNT_MAX:,}")
    return user_ids


def draw_zipf(population: int, count: int, exponent: float, seed: int) -> list[int]:
    """`count` ranks from 0 to `population` - 1, rank r with the weight (r + 1) ** -exponent; exponent 0 is uniform."""
    weights = itertools.accumulate((rank + 1) ** -exponent for rank in range(population))
    return random.Random(seed).choices(range(population), cum_weights=list(weights), k=count)


def serialise_requests(
    user_ids: Sequence[str],
    draws: Sequence[int],
    placement: str,
    page_size: int,
    request_time: datetime | None = None,
) -> list[bytes]:
    """The request of each draw as bytes, made once a shopper, so that sending costs no protobuf."""
    made = {
        rank: write_recommend(
            RecommendRequest(
                user_id=user_ids[rank], placement=placement, page_size=page_size, request_time=request_time
            )
        ).SerializeToString()
        for rank in set(draws)
    }
    return [made[rank] for rank in draws]
