"""Settings of the further sources: `[sources.NAME]` of a shop's TOML; their depths stand in `[candidates]`."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

FURTHER = (
    "item_item",
    "bought_next",
    "bought_together",
    "user_user",
    "als",
    "bpr",
    "light_gcn",
    "graph_filter",
    "content",
    "trending",
    "segment",
)
"""The names of the further sources, in the order of their bits and of the ranker's columns."""


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ProfileSettings(_Section):
    """How much of a history a source reads, and how fast the old counts less."""

    items_max: int = Field(default=200, ge=1, description="Newest distinct items of a shopper that are read.")
    half_life_items: float = Field(default=0.0, ge=0, description="Items after which the weight halves; 0: never.")
    half_life_days: float = Field(default=0.0, ge=0, description="Days after which the weight halves; 0: never.")


class ItemItemSettings(_Section):
    """Item-based filtering: what the same users had to do with."""

    similarity: Literal["cosine", "pearson", "tfidf", "bm25"] = Field(
        default="cosine", description="How two items' columns of users are compared."
    )
    neighbours: int = Field(default=100, ge=1, le=2_000, description="Items kept in each list.")
    shrinkage: float = Field(default=0.0, ge=0, description="Added to the denominator: rare coincidences count less.")
    profile: ProfileSettings = ProfileSettings()


class AlsSettings(_Section):
    """Matrix factorisation by alternating least squares; shoppers are folded in when they ask."""

    dimension: int = Field(default=64, ge=1, le=128, description="Numbers of a vector.")
    confidence: float = Field(default=1.0, gt=0, description="What an item of weight 1 adds to every item's 1.")
    counts: bool = Field(default=False, description="Every event of an item adds, by its age in days; else the newest.")
    regularization: float = Field(default=10.0, gt=0, description="λ, which pulls all vectors towards 0.")
    iterations: int = Field(default=15, ge=1, le=200, description="Times that users and items are solved in turn.")
    profile: ProfileSettings = ProfileSettings()


class SourceSettings(_Section):
    """All of `[sources]`."""

    item_item: ItemItemSettings = ItemItemSettings()
    als: AlsSettings = AlsSettings()
