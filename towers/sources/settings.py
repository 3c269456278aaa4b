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


class BprSettings(_Section):
    """Bayesian personalised ranking of shoppers who are the sum of what their items bring."""

    dimension: int = Field(default=64, ge=1, le=512, description="Numbers of a vector.")
    epochs: int = Field(default=30, ge=1, le=1_000, description="Passes over all users' items.")
    negatives: int = Field(default=2, ge=1, le=64, description="Items drawn against each of a user's.")
    step: float = Field(default=0.1, gt=0, description="Step size of the first pass; the last has a tenth of it.")
    regularization: float = Field(default=0.001, ge=0, description="How strongly all vectors are pulled towards 0.")
    length_exponent: float = Field(default=0.5, ge=0, le=1, description="1: the mean of a user's items; 0: their sum.")
    profile: ProfileSettings = ProfileSettings()


class GraphFilterSettings(_Section):
    """A closed-form filter on the graph of users and items; its rows are kept as lists."""

    dimension: int = Field(default=256, ge=0, le=2_048, description="Eigenvectors of the low-pass part.")
    step: float = Field(default=0.2, ge=0, description="What the low-pass part adds to each of its eigenvalues.")
    sharpening: float = Field(default=1.0, ge=0, description="How strongly the largest eigenvalues are damped.")
    own_exponent: float = Field(default=0.5, ge=0, le=1, description="A shopper's item counts by degree^-this.")
    popularity_exponent: float = Field(default=0.5, ge=0, le=1, description="What is brought counts by degree^this.")
    neighbours: int = Field(default=300, ge=1, le=2_000, description="Items kept in each list.")
    profile: ProfileSettings = ProfileSettings()


class SourceSettings(_Section):
    """All of `[sources]`."""

    item_item: ItemItemSettings = ItemItemSettings()
    als: AlsSettings = AlsSettings()
    bpr: BprSettings = BprSettings()
    graph_filter: GraphFilterSettings = GraphFilterSettings()
