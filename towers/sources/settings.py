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


Events = Literal["all", "target"]


class ItemItemSettings(_Section):
    """Item-based filtering: what the same users had to do with."""

    similarity: Literal["cosine", "pearson", "tfidf", "bm25"] = Field(
        default="cosine", description="How two items' columns of users are compared."
    )
    neighbours: int = Field(default=100, ge=1, le=2_000, description="Items kept in each list.")
    shrinkage: float = Field(default=0.0, ge=0, description="Added to the denominator: rare coincidences count less.")
    asymmetry: float = Field(
        default=0.5, ge=0, le=1, description="Share of the own item in the denominator; 0.5 is the cosine (not bm25)."
    )
    power: float = Field(
        default=1.0, gt=0, description="Similarities are raised to it: above 1, the nearest count more."
    )
    bm25_saturation: float = Field(default=1.2, gt=0, description="bm25's K1: how soon repeats stop counting.")
    bm25_length_share: float = Field(default=0.75, ge=0, le=1, description="bm25's B: what popular items count less.")
    profile: ProfileSettings = ProfileSettings()


class BoughtNextSettings(_Section):
    """Directed co-occurrence: what users turned to after an item."""

    events: Events = Field(default="all", description="Which events count: all, or the target ones.")
    neighbours: int = Field(default=100, ge=1, le=2_000, description="Items kept in each list.")
    window: int = Field(default=10, ge=1, le=1_000, description="Moments that two events may lie apart.")
    distance_power: float = Field(default=1.0, ge=0, description="A pair d moments apart counts d to minus this power.")
    distance_half_life: float = Field(default=0.0, ge=0, description="Moments after which it halves; 0: never.")
    backward: float = Field(default=0.0, ge=0, le=1, description="What a pair counts in the other direction.")
    popularity_exponent: float = Field(
        default=0.5, ge=0, le=2, description="Counts are divided by the follower's events to this power."
    )
    source_exponent: float = Field(
        default=0.5, ge=0, le=2, description="Counts are divided by the own item's events to this power."
    )
    shrinkage: float = Field(default=0.0, ge=0, description="Added to the denominator: rare coincidences count less.")
    power: float = Field(default=1.0, gt=0, description="Weights are raised to it: above 1, the best count more.")
    profile: ProfileSettings = ProfileSettings(half_life_items=5)


class BoughtTogetherSettings(_Section):
    """Basket lift: what users take at the same time."""

    events: Events = Field(default="target", description="Which events count: all, or the target ones.")
    neighbours: int = Field(default=100, ge=1, le=2_000, description="Items kept in each list.")
    shrinkage: float = Field(
        default=5.0, ge=0, description="Baskets added to those expected: lift without support counts less."
    )
    power: float = Field(default=1.0, gt=0, description="Lifts are raised to it: above 1, the best count more.")
    profile: ProfileSettings = ProfileSettings(half_life_items=5)


class UserUserSettings(_Section):
    """User-based filtering: what the most similar users had to do with."""

    neighbours: int = Field(default=100, ge=1, le=10_000, description="Similar users whose items are summed.")
    users_per_item_max: int = Field(default=1_000, ge=1, description="Newest users of an item that are looked at.")
    items_per_user_max: int = Field(default=200, ge=1, description="Newest distinct items of a user that are kept.")
    weighting: Literal["idf", "inverse"] = Field(
        default="idf", description="What a common item counts: log(1 + users / its users), or its users to a power."
    )
    popularity_exponent: float = Field(default=0.5, ge=0, le=2, description="That power, negative, where inverse.")
    length_exponent: float = Field(
        default=0.5, ge=0, le=1, description="Power of a user's squared length in the denominator; 0.5 is the cosine."
    )
    likeness_power: float = Field(default=1.0, ge=0, description="A user's items count his likeness to this power.")
    profile: ProfileSettings = ProfileSettings(items_max=100)


class ContentSettings(_Section):
    """Items alike by attributes and words."""

    neighbours: int = Field(default=100, ge=1, le=2_000, description="Items kept in each list.")
    attribute_weight: float = Field(default=1.0, ge=0, description="What categorical attributes count.")
    word_weight: float = Field(default=1.0, ge=0, description="What words count.")
    number_weight: float = Field(default=1.0, ge=0, description="What numbers count, where they have bins.")
    number_bins: int = Field(default=0, ge=0, le=1_000, description="Quantiles that numbers are told by; 0: left out.")
    feature_items_max: int = Field(
        default=10_000, ge=1, description="A value or word of more items is not compared by: it says least, costs most."
    )
    power: float = Field(
        default=1.0, gt=0, description="Similarities are raised to it: above 1, the nearest count more."
    )
    profile: ProfileSettings = ProfileSettings(half_life_items=5)


class TrendingSettings(_Section):
    """Items that more users turn to than a while ago."""

    events: Events = Field(default="target", description="Which events count: all, or the target ones.")
    depth: int = Field(default=1_000, ge=1, le=10_000, description="Items kept.")
    window_days: int = Field(default=7, ge=1, description="The last days, whose rise is looked for.")
    before_days: int = Field(default=28, ge=1, description="The days before them, which they are compared with.")
    smoothing: float = Field(default=5.0, gt=0, description="Users added to those expected: small numbers rise less.")


class SegmentSettings(_Section):
    """What users of the same segment turn to most."""

    attributes: tuple[str, ...] = Field(default=(), description="User attributes whose values make a segment.")
    events: Events = Field(default="target", description="Which events count: all, or the target ones.")
    depth: int = Field(default=1_000, ge=1, le=10_000, description="Items kept for each segment.")
    window_days: int = Field(default=0, ge=0, description="Only the last days count; 0: all.")
    users_min: int = Field(
        default=20, ge=1, description="Users that make a segment; of fewer, everyone's list is shown."
    )
    smoothing: float = Field(default=20.0, ge=0, description="Users of everyone's habits added to each segment.")


class SourceSettings(_Section):
    """All of `[sources]`."""

    item_item: ItemItemSettings = ItemItemSettings()
    bought_next: BoughtNextSettings = BoughtNextSettings()
    bought_together: BoughtTogetherSettings = BoughtTogetherSettings()
    user_user: UserUserSettings = UserUserSettings()
    content: ContentSettings = ContentSettings()
    trending: TrendingSettings = TrendingSettings()
    segment: SegmentSettings = SegmentSettings()
