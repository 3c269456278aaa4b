"""Golden queries: questions stored with a generation beside the answers that it gave when it was built.

A server that answers otherwise has other code, other numerics or other data than the builder, and must not serve.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError

from server.config import ContextItems, PlacementConfig
from server.domain import RecommendAnswer, RecommendQuery, RepeatPolicy, Shopper

if TYPE_CHECKING:
    from server.model import ServingModel

GOLDEN_FILE = "golden.json"
SCORE_TOLERANCE = 1e-3
"""Between processors float32 sums differ in the last digits; a wrong model is off by far more."""
PLACEMENTS = {
    "home": PlacementConfig(),
    "product": PlacementConfig(context_items=ContextItems.SEED),
    "cart": PlacementConfig(context_items=ContextItems.CART),
}
_PAGE_SIZE = 10


class GoldenMismatch(ValueError):
    """A golden query got another answer; the message names the query, the place and both scores."""


class _Golden(BaseModel):
    """One query and its answer."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    placement: str
    user_id: str
    context_item_ids: tuple[str, ...]
    exclude_bought: bool
    request_time_s: float
    item_ids: tuple[str, ...]
    scores: tuple[float, ...]

    def query(self) -> RecommendQuery:
        """The question alone."""
        return RecommendQuery(
            placement=self.placement,
            shopper=Shopper(user_id=self.user_id, context_item_ids=self.context_item_ids),
            request_time_s=self.request_time_s,
            page_size=_PAGE_SIZE,
            repeat_policy=RepeatPolicy.EXCLUDE_BOUGHT if self.exclude_bought else RepeatPolicy.ALLOW,
        )


class _GoldenFile(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")
    queries: tuple[_Golden, ...]


def write_golden(serving: ServingModel, user_ids: Sequence[str], item_ids: Sequence[str], as_of_s: float) -> bytes:
    """Asks the golden queries and returns the file: each user, and nobody, at each placement."""
    asked = [
        {
            "placement": placement,
            "user_id": user_id,
            "context_item_ids": [item_ids[place % len(item_ids)]] if placement != "home" else [],
            "exclude_bought": place % 2 == 1,
            "request_time_s": float(as_of_s),
            "item_ids": (),
            "scores": (),
        }
        for place, user_id in enumerate([*user_ids, ""])
        for placement in PLACEMENTS
    ]
    goldens = [_Golden.model_validate(entry) for entry in asked]
    answers = _ask(serving, goldens)
    answered = [
        {**entry, "item_ids": answer.item_ids, "scores": answer.scores}
        for entry, answer in zip(asked, answers, strict=True)
    ]
    return json.dumps({"queries": answered}, indent=1).encode()


def check_golden(serving: ServingModel, path: Path) -> None:
    """Asks again and compares. Raises GoldenMismatch."""
    try:
        goldens = _GoldenFile.model_validate_json(path.read_bytes()).queries
    except ValidationError as error:
        raise GoldenMismatch(f"{GOLDEN_FILE}: {error}") from error
    if not goldens:
        raise GoldenMismatch(f"{GOLDEN_FILE}: it holds no query, so nothing would be checked")
    for place, (golden, answer) in enumerate(zip(goldens, _ask(serving, goldens), strict=True)):
        _compare(place, golden, answer)


def _ask(serving: ServingModel, goldens: Sequence[_Golden]) -> list[RecommendAnswer]:
    from server.engine import Engine

    answers, _ = Engine(serving, PLACEMENTS).answer([golden.query() for golden in goldens])
    return [answer for answer in answers if isinstance(answer, RecommendAnswer)]


def _compare(place: int, golden: _Golden, answer: RecommendAnswer) -> None:
    """The same items with the same scores; items of equal score may swap."""
    where = f"{GOLDEN_FILE}: query {place} (user {golden.user_id!r}, placement {golden.placement})"
    if len(answer.item_ids) != len(golden.item_ids):
        raise GoldenMismatch(f"{where}: {len(answer.item_ids)} items, expected {len(golden.item_ids)}")
    off = np.abs(np.array(answer.scores) - np.array(golden.scores))
    if len(off) and off.max() > SCORE_TOLERANCE:
        worst = int(off.argmax())
        raise GoldenMismatch(
            f"{where}: score {answer.scores[worst]:.6f} at place {worst}, expected {golden.scores[worst]:.6f}"
        )
    floor = min(golden.scores, default=0.0) + SCORE_TOLERANCE
    certain = {item for item, score in zip(golden.item_ids, golden.scores, strict=True) if score > floor}
    missing = certain - set(answer.item_ids)
    if missing:
        raise GoldenMismatch(f"{where}: items {sorted(missing)} are missing")
