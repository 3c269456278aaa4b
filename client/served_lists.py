"""The lists that a running server gives to many users, asked over gRPC in batches, several of them in flight."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime

import numpy as np
from numpy.typing import NDArray
from twinrank_client import Client, DegradedReason, Recommendations, RecommendRequest, RepeatPolicy

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

    def take(place: int, answer: Recommendations) -> None:
        out[place, : len(answer.item_ids)] = [row_of[item_id] for item_id in answer.item_ids]

    request = RecommendRequest(request_time=asked_at, page_size=page_size, repeat_policy=policy)
    ask_for_users(client, user_ids, request, take, calls_in_flight)
    return out


def ask_for_users(
    client: Client,
    user_ids: Sequence[str],
    request: RecommendRequest,
    take: Callable[[int, Recommendations], None],
    calls_in_flight: int = 1,
    accepted: Collection[DegradedReason] = (),
) -> None:
    """Asks the same for every user; `take` is given each user's place and answer, from several threads.

    Raises:
        RuntimeError: an answer is degraded for a reason that is not accepted, so it would say nothing of the models.
    """

    def ask(begin: int) -> None:
        requests = [replace(request, user_id=user_id) for user_id in user_ids[begin : begin + REQUESTS_PER_CALL]]
        for place, answer in enumerate(client.batch_recommend(requests), start=begin):
            if answer.degraded and answer.degraded_reason not in accepted:
                raise RuntimeError(f"the answer to user {user_ids[place]!r} is degraded: {answer.degraded_reason.name}")
            take(place, answer)

    with ThreadPoolExecutor(calls_in_flight) as pool:
        list(pool.map(ask, range(0, len(user_ids), REQUESTS_PER_CALL)))
