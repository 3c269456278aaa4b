"""The lists that a running server gives to many users, asked over gRPC in batches, several of them in flight."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime

import numpy as np
from numpy.typing import NDArray
from twinrank_client import Client, RecommendRequest, RepeatPolicy

REQUESTS_PER_CALL = 32


def served_lists(
    client: Client,
    user_ids: Sequence[str],
    item_ids: Sequence[str],
    asked_at: datetime,
    policy: RepeatPolicy,
    page_size: int,
    calls_in_flight: int = 1,
) -> NDArray[np.int32]:
    """(U, page_size) places in `item_ids` as the server ranks them, -1 pads.

    Raises:
        RuntimeError: an answer is degraded, so the lists would say nothing of the models.
    """
    row_of = {item_id: row for row, item_id in enumerate(item_ids)}
    out = np.full((len(user_ids), page_size), -1, np.int32)

    def ask(begin: int) -> None:
        requests = [
            RecommendRequest(user_id=user_id, request_time=asked_at, page_size=page_size, repeat_policy=policy)
            for user_id in user_ids[begin : begin + REQUESTS_PER_CALL]
        ]
        for place, answer in enumerate(client.batch_recommend(requests)):
            if answer.degraded:
                reason = answer.degraded_reason.name
                raise RuntimeError(f"the answer to user {user_ids[begin + place]!r} is degraded: {reason}")
            out[begin + place, : len(answer.item_ids)] = [row_of[item_id] for item_id in answer.item_ids]

    with ThreadPoolExecutor(calls_in_flight) as pool:
        list(pool.map(ask, range(0, len(user_ids), REQUESTS_PER_CALL)))
    return out
