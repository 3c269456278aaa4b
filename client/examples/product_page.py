"""An example service: the two strips of a product page, which must come in time whatever becomes of Twinrank.

Its unit test, tests/client/examples/test_product_page.py, runs on the SDK's own fake server.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass

from twinrank_client import (
    Client,
    DeadlineExceeded,
    NotFound,
    Overloaded,
    RecentEvent,
    RecommendRequest,
    SimilarItemsRequest,
    Unavailable,
)

BUDGET_S_DEFAULT = 0.15
"""What the page gives both strips together; then it shows bestsellers."""
STRIP_SIZE = 6
OUT_OF_REACH = (Unavailable, Overloaded, DeadlineExceeded)
"""What a page lives with. Any other TwinrankError is a bug, of the page or of the server, and is let through."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Strips:
    """Item ids to show. `personal` is False where bestsellers stand in; the token goes out with the page's events."""

    similar: tuple[str, ...]
    recommended: tuple[str, ...]
    personal: bool
    attribution_token: str = ""


class ProductPage:
    """Asks Twinrank for a product page's strips within a budget of time."""

    def __init__(self, twinrank: Client, bestsellers: Sequence[str], *, budget_s: float = BUDGET_S_DEFAULT) -> None:
        self._twinrank = twinrank
        self._bestsellers = tuple(bestsellers)
        self._budget_s = budget_s

    def strips(self, item_id: str, user_id: str = "") -> Strips:
        """What to show beside this item to this shopper, known or not: in time, with Twinrank or without."""
        late_at_s = time.monotonic() + self._budget_s
        request = RecommendRequest(
            placement="product",
            user_id=user_id,
            context_item_ids=[item_id],
            # The view of this very page: the model cannot know it yet, and the answer should see it.
            recent_events=[RecentEvent(item_id, "view")],
            exclude_item_ids=[item_id],
            page_size=STRIP_SIZE,
        )
        try:
            recommended = self._twinrank.recommend(request, timeout_s=self._budget_s)
        except OUT_OF_REACH as error:
            _log.warning("bestsellers stand in beside item %s: %s", item_id, error)
            return Strips(similar=(), recommended=self._bestsellers_but(item_id), personal=False)
        similar = self._similar(item_id, late_at_s - time.monotonic())
        return Strips(similar, recommended.item_ids, personal=True, attribution_token=recommended.attribution_token)

    def _similar(self, item_id: str, left_s: float) -> tuple[str, ...]:
        if left_s <= 0:
            return ()
        try:
            answer = self._twinrank.similar_items(SimilarItemsRequest(item_id, page_size=STRIP_SIZE), timeout_s=left_s)
        except (NotFound, *OUT_OF_REACH) as error:
            # An item newer than the generation, or no time left: the page does without this strip.
            _log.info("no similar items beside item %s: %s", item_id, error)
            return ()
        return answer.item_ids

    def _bestsellers_but(self, item_id: str) -> tuple[str, ...]:
        return tuple(bestseller for bestseller in self._bestsellers if bestseller != item_id)[:STRIP_SIZE]
