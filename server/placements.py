"""How each placement finds its candidates: the generation's settings, what the placement says, what its pages need."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from server.config import ContextItems, PlacementConfig
from towers.settings import CandidateSettings, HeadWeights


@dataclass(frozen=True, slots=True)
class Plan:
    """One placement's way to candidates.

    Attributes:
        role: what its context items are.
        candidates: how many items each source brings.
        without_seed: the same for a product page whose item is unknown: there is nothing to be like.
        heads: what each head of the ranker counts.
    """

    role: ContextItems
    candidates: CandidateSettings
    without_seed: CandidateSettings
    heads: HeadWeights

    def settings(self, *, seeded: bool) -> CandidateSettings:
        """What a request gets whose context items are known or not."""
        return self.candidates if seeded or self.role is not ContextItems.SEED else self.without_seed


def plan(placements: Mapping[str, PlacementConfig], trained: CandidateSettings) -> dict[str, Plan]:
    """The plan of every placement; `trained` are the settings that the model was trained with."""
    return {name: _plan(placement, trained) for name, placement in placements.items()}


def heads_missing(placements: Mapping[str, PlacementConfig], heads: Sequence[str]) -> str:
    """What is wrong where a placement weighs a head that the ranker has not; empty where all have theirs."""
    for name, placement in placements.items():
        for head in placement.heads.on:
            if head not in heads:
                return (
                    f"placements.{name}.heads.{head} is {getattr(placement.heads, head)}, but the ranker has only "
                    f"{', '.join(heads)}; set it to 0, or train with [ranker.heads] {head} above 0"
                )
    return ""


def _plan(placement: PlacementConfig, trained: CandidateSettings) -> Plan:
    chosen, sources = trained.model_dump(), ["two_tower", "popular"]
    if placement.context_items is ContextItems.SEED:  # a product page shows what is like its item
        depth = chosen["two_tower"] + chosen["similar"]
        chosen |= {"two_tower": 0, "buy_again": 0, "popular": 0, "similar": depth}
        sources.append("similar")
    return Plan(
        placement.context_items,
        _filling_a_page(CandidateSettings(**{**chosen, **placement.candidates}), placement.page_size_max, sources),
        _filling_a_page(
            CandidateSettings(**{**trained.model_dump(), **placement.candidates}),
            placement.page_size_max,
            ["two_tower", "popular"],
        ),
        placement.heads,
    )


def _filling_a_page(settings: CandidateSettings, page_size_max: int, sources: list[str]) -> CandidateSettings:
    """No page may fall short while there are items: the deepest of the sources that always answer fills the largest."""
    deepest = max(sources, key=lambda source: int(getattr(settings, source)))
    depth = max(int(getattr(settings, deepest)), page_size_max)
    return settings.model_copy(update={deepest: depth})
