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

    items_max: int = Field(
        default=200, ge=1, le=1_000_000, description="Newest distinct items of a shopper that are read."
    )
    half_life_items: float = Field(
        default=0.0, ge=0, description="Newer items, of later moments, that halve the weight; 0: none do."
    )
    half_life_days: float = Field(default=0.0, ge=0, description="Days after which the weight halves; 0: never.")


Events = Literal["all", "target"]


class ItemItemSettings(_Section):
    """Item-based filtering: what the same users had to do with."""

    similarity: Literal["cosine", "pearson", "tfidf", "bm25"] = Field(
        default="cosine", description="How two items' columns of users are compared."
    )
    neighbours: int = Field(default=100, ge=1, le=2_000, description="Items kept in each list.")
    shrinkage: float = Field(default=10.0, ge=0, description="Added to the denominator: rare coincidences count less.")
    asymmetry: float = Field(
        default=0.6, ge=0, le=1, description="Share of the own item in the denominator; 0.5 is the cosine (not bm25)."
    )
    power: float = Field(
        default=1.0, gt=0, description="Similarities are raised to it: above 1, the nearest count more."
    )
    bm25_saturation: float = Field(default=1.2, gt=0, description="bm25's K1: how soon repeats stop counting.")
    bm25_length_share: float = Field(default=0.75, ge=0, le=1, description="bm25's B: what popular items count less.")
    profile: ProfileSettings = ProfileSettings()


class AlsSettings(_Section):
    """Matrix factorisation by alternating least squares; shoppers are folded in when they ask."""

    dimension: int = Field(default=64, ge=1, le=128, description="Numbers of a vector.")
    confidence: float = Field(default=10.0, gt=0, description="What an item of weight 1 adds to every item's 1.")
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


class LightGcnSettings(_Section):
    """Item vectors learned through the propagation over the graph of users and items."""

    dimension: int = Field(default=64, ge=1, le=512, description="Numbers of a vector.")
    layers: int = Field(default=1, ge=1, le=4, description="Steps from items over users to items.")
    epochs_max: int = Field(default=30, ge=1, le=1_000, description="Passes over all users' items.")
    patience: int = Field(default=2, ge=0, description="Epochs without gain on a held-out share before it stops.")
    batch_size: int = Field(default=8_192, ge=1, description="Pairs of user and item in a step.")
    negatives: int = Field(default=1_024, ge=1, le=100_000, description="Items drawn against a whole batch.")
    temperature: float = Field(default=0.2, gt=0, description="Products are divided by it in the softmax.")
    learning_rate: float = Field(default=0.01, gt=0, description="Adam's step size.")
    regularization: float = Field(default=1e-4, ge=0, description="What an item vector's squared length costs.")
    profile: ProfileSettings = ProfileSettings()


class GraphFilterSettings(_Section):
    """A closed-form filter on the graph of users and items; its rows are kept as lists."""

    dimension: int = Field(default=256, ge=0, le=2_048, description="Eigenvectors of the low-pass part.")
    step: float = Field(default=0.3, ge=0, description="What the low-pass part adds to each of its eigenvalues.")
    sharpening: float = Field(default=1.3, ge=0, description="How strongly the largest eigenvalues are damped.")
    own_exponent: float = Field(default=0.3, ge=0, le=1, description="A shopper's item counts by degree^-this.")
    popularity_exponent: float = Field(default=0.5, ge=0, le=1, description="What is brought counts by degree^this.")
    neighbours: int = Field(default=300, ge=1, le=2_000, description="Items kept in each list.")
    profile: ProfileSettings = ProfileSettings()


class BoughtNextSettings(_Section):
    """Directed co-occurrence: what users turned to after an item."""

    events: Events = Field(default="all", description="Which events count: all, or the target ones.")
    neighbours: int = Field(default=200, ge=1, le=2_000, description="Items kept in each list.")
    window: int = Field(default=10, ge=1, le=1_000, description="Moments that two events may lie apart.")
    distance_power: float = Field(default=1.0, ge=0, description="A pair d moments apart counts d to minus this power.")
    distance_half_life: float = Field(default=0.0, ge=0, description="Moments after which it halves; 0: never.")
    backward: float = Field(default=0.0, ge=0, le=1, description="What a pair counts in the other direction.")
    popularity_exponent: float = Field(
        default=0.25, ge=0, le=2, description="Counts are divided by the follower's events to this power."
    )
    source_exponent: float = Field(
        default=0.5, ge=0, le=2, description="Counts are divided by the own item's events to this power."
    )
    shrinkage: float = Field(default=3.0, ge=0, description="Added to the denominator: rare coincidences count less.")
    power: float = Field(default=1.0, gt=0, description="Weights are raised to it: above 1, the best count more.")
    profile: ProfileSettings = ProfileSettings(half_life_items=2)


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
    nearness_half_life: float = Field(
        default=0.0, ge=0, description="Items from the newest common one, in a user's order, that halve; 0: never."
    )
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
    als: AlsSettings = AlsSettings()
    bpr: BprSettings = BprSettings()
    light_gcn: LightGcnSettings = LightGcnSettings()
    graph_filter: GraphFilterSettings = GraphFilterSettings()

    bought_next: BoughtNextSettings = BoughtNextSettings()
    bought_together: BoughtTogetherSettings = BoughtTogetherSettings()
    user_user: UserUserSettings = UserUserSettings()
    content: ContentSettings = ContentSettings()
    trending: TrendingSettings = TrendingSettings()
    segment: SegmentSettings = SegmentSettings()
