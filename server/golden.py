"""Golden queries: questions stored with a generation beside the answers that it gave when it was built.

A server that answers otherwise has other code, other numerics or other data than the builder, and must not serve.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, ValidationError

from server.config import ContextItems, PlacementConfig
from server.domain import RecommendAnswer, RecommendQuery, RepeatPolicy, Shopper
from server.engine import Engine
from server.serving_model import ServingModel

GOLDEN_FILE = "golden.json"
LOGIT_TOLERANCE = SIMILARITY_TOLERANCE = 1e-3
"""Between processors float32 sums differ in the last digits; a wrong model is off by far more. Scores are compared as
logits: where nearly nothing is bought, all probabilities are alike."""
_PlacementName = Literal["home", "product", "cart"]
_PLACEMENT_NAMES: tuple[_PlacementName, ...] = get_args(_PlacementName)
PLACEMENTS: dict[str, PlacementConfig] = {
    "home": PlacementConfig(),
    "product": PlacementConfig(context_items=ContextItems.SEED),
    "cart": PlacementConfig(context_items=ContextItems.CART),
}
_PAGE_SIZE = 10


class GoldenMismatch(ValueError):
    """A golden query got another answer, or none that counts; the message names the query and what is wrong."""


class _Golden(BaseModel):
    """One query and its answer."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    placement: _PlacementName
    user_id: str
    context_item_ids: tuple[str, ...]
    exclude_bought: bool
    request_time_s: float
    item_ids: tuple[str, ...] = ()
    scores: tuple[float, ...] = ()
    similarities: tuple[float, ...] = ()
    times_bought: tuple[float, ...] = ()

    def query(self) -> RecommendQuery:
        """The question alone."""
        return RecommendQuery(
            placement=self.placement,
            shopper=Shopper(user_id=self.user_id, context_item_ids=self.context_item_ids),
            request_time_s=self.request_time_s,
            page_size=_PAGE_SIZE,
            repeat_policy=RepeatPolicy.EXCLUDE_BOUGHT if self.exclude_bought else RepeatPolicy.ALLOW,
            explain=True,
        )

    def answered(self, answer: RecommendAnswer) -> _Golden:
        """The question with this answer."""
        columns = {
            "item_ids": tuple(answer.item_ids),
            "scores": tuple(answer.scores),
            "similarities": tuple(why.similarity for why in answer.explanations),
            "times_bought": tuple(why.times_bought for why in answer.explanations),
        }
        return self.model_copy(update=columns)


class _GoldenFile(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")
    queries: tuple[_Golden, ...]


def write_golden(serving: ServingModel, user_ids: Sequence[str], item_ids: Sequence[str], as_of_s: float) -> bytes:
    """Asks the golden queries and returns the file: each user, and nobody, at each placement.

    Raises GoldenMismatch when the model gives scores that are no numbers, such as one whose training diverged.
    """
    goldens = [
        _Golden(
            placement=placement,
            user_id=user_id,
            context_item_ids=(item_ids[place % len(item_ids)],) if placement != "home" else (),
            exclude_bought=place % 2 == 1,
            request_time_s=as_of_s,
        )
        for place, user_id in enumerate([*user_ids, ""])
        for placement in _PLACEMENT_NAMES
    ]
    answered = _ask(serving, goldens)
    for place, golden in enumerate(answered):
        if not np.isfinite([golden.scores, golden.similarities]).all():
            raise GoldenMismatch(f"{_where(place, golden)}: the model's scores are no numbers: {golden.scores}")
    return _GoldenFile(queries=tuple(answered)).model_dump_json(indent=1).encode()


def check_golden(serving: ServingModel, path: Path, *, examined: bool = False) -> None:
    """Asks again and compares. Raises GoldenMismatch.

    `examined`: another process of this server has asked all; one query at each placement warms up, and costs those who
    are served meanwhile an eighth of the time.
    """
    try:
        goldens = _GoldenFile.model_validate_json(path.read_bytes()).queries
    except ValidationError as error:
        raise GoldenMismatch(f"{GOLDEN_FILE}: {error}") from error
    if not goldens:
        raise GoldenMismatch(f"{GOLDEN_FILE}: it holds no query, so nothing would be checked")
    if examined:
        goldens = goldens[: len(PLACEMENTS)]
    for place, (golden, found) in enumerate(zip(goldens, _ask(serving, goldens), strict=True)):
        _compare(_where(place, golden), golden, found)


def _ask(serving: ServingModel, goldens: Sequence[_Golden]) -> list[_Golden]:
    answers, _ = Engine(serving, PLACEMENTS).answer([golden.query() for golden in goldens])
    return [
        golden.answered(answer)
        for golden, answer in zip(goldens, answers, strict=True)
        if isinstance(answer, RecommendAnswer)
    ]


def _where(place: int, golden: _Golden) -> str:
    return f"{GOLDEN_FILE}: query {place} (user {golden.user_id!r}, placement {golden.placement})"


def _compare(where: str, golden: _Golden, found: _Golden) -> None:
    """The same scores, and the same items for the same reasons; items of equal score may change places."""
    count = len(golden.item_ids)
    if not count == len(golden.scores) == len(golden.similarities) == len(golden.times_bought):
        raise GoldenMismatch(f"{where}: its columns differ in length")
    if len(found.item_ids) != count:
        raise GoldenMismatch(f"{where}: {len(found.item_ids)} items, expected {count}")
    expected_logits = _logits(golden.scores)
    close = np.abs(_logits(found.scores) - expected_logits) <= LOGIT_TOLERANCE  # False, too, for what is no number
    if not close.all():
        worst = int(np.flatnonzero(~close)[0])
        raise GoldenMismatch(
            f"{where}: score {found.scores[worst]:.6f} at place {worst}, expected {golden.scores[worst]:.6f}"
        )
    last = expected_logits[-1] if count else 0.0
    place_of = {item_id: place for place, item_id in enumerate(found.item_ids)}
    for place, item_id in enumerate(golden.item_ids):
        if item_id in place_of:
            _compare_reasons(f"{where}: item {item_id!r}", golden, place, found, place_of[item_id])
        elif expected_logits[place] > last + LOGIT_TOLERANCE:
            raise GoldenMismatch(f"{where}: item {item_id!r} at place {place} is missing")


def _compare_reasons(where: str, golden: _Golden, place: int, found: _Golden, found_place: int) -> None:
    similarity, expected = found.similarities[found_place], golden.similarities[place]
    if not abs(similarity - expected) <= SIMILARITY_TOLERANCE:
        raise GoldenMismatch(f"{where} has similarity {similarity:.6f}, expected {expected:.6f}")
    times, expected = found.times_bought[found_place], golden.times_bought[place]
    if times != expected:
        raise GoldenMismatch(f"{where} was bought {times:g} times, expected {expected:g}")


def _logits(scores: Sequence[float]) -> NDArray[np.float64]:
    """(n,) logits; a probability that is 0 or 1 in float32 counts as nearly so."""
    probability = np.clip(np.array(scores, np.float64), 1e-9, 1 - 1e-9)
    return np.log(probability / (1 - probability))
