"""Settings of learning and retrieval: the sections [features] to [training] of a shop's TOML.

Frozen, unknown keys are errors, every number has its unit, default and reason.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator, model_validator

from towers.sources.settings import FURTHER, SourceSettings


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class FeatureSettings(_Section):
    """What the models see of users, items and requests."""

    sequence_events_max: int = Field(default=50, ge=1, le=1_000, description="Newest events that the user tower reads.")
    history_events_max: int = Field(
        default=8_192,
        ge=1,
        description="Newest target events, and newest others, that features read of a user.",
    )
    affinity_attributes: tuple[str, ...] = Field(
        default=(), description="Categorical item attributes whose share in the user's purchases is a ranker feature."
    )
    clock: bool = Field(
        default=True,
        description="Whether the user tower reads a request's hour and weekday; false where times are only an order.",
    )
    user_id_buckets: int = Field(
        default=0, ge=0, description="Hash buckets of user ids in the user tower; 0 leaves the user's id out."
    )


class TowerSettings(_Section):
    """Shape and training of the two towers."""

    dimension: int = Field(default=64, ge=4, le=1_024, description="D, length of user and item embeddings.")
    encoder: Literal["self_attention", "mean", "cnn", "gru"] = Field(
        default="self_attention", description="The sequence encoder."
    )
    blocks: int = Field(
        default=1, ge=1, le=8, description="Self-attention blocks, layers of a GRU, passes through a CNN's dilations."
    )
    heads: int = Field(default=2, ge=1, description="Attention heads; divides the dimension.")
    dropout: float = Field(default=0.1, ge=0, lt=1, description="Dropout in the encoders.")
    id_dropout: float = Field(
        default=0.1, ge=0, lt=1, description="Share of ids hidden in training, so that attributes alone carry meaning."
    )
    item_events_min: int = Field(
        default=3, ge=1, description="Target events that earn an item an id embedding; rarer ones rest on attributes."
    )
    positives: Literal["all", "new"] = Field(
        default="all", description="Whether items that the user bought before are targets too."
    )
    positions: Literal["visits", "all"] = Field(
        default="visits",
        description='"visits": each visit is learned from with a sequence of its own; "all": a sequence is read once '
        "for all visits in it, several times cheaper; time gaps are then those between its events.",
    )
    loss: Literal["sampled_softmax", "gbce"] = Field(
        default="sampled_softmax",
        description="sampled_softmax corrects for popularity; gbce is binary cross-entropy against the uniform draws.",
    )
    gbce_calibration: float = Field(
        default=0.75, ge=0, le=1, description="gbce: 0 leaves out that negatives are sampled, 1 corrects for all of it."
    )
    in_batch_negatives: bool = Field(
        default=True, description="sampled_softmax: whether other visits' positives are negatives too."
    )
    epochs_max: int = Field(default=6, ge=1, description="Passes over the training visits.")
    patience: int = Field(default=2, ge=1, description="Epochs without gain on validation before training stops.")
    batch_size: int = Field(default=256, ge=2, description="Visits in a step.")
    targets_per_visit: int = Field(default=2, ge=1, description="Positives drawn from each visit in a step.")
    uniform_negatives: int = Field(default=1_024, ge=1, description="Catalogue items drawn in a step as negatives.")
    learning_rate: float = Field(default=2e-3, gt=0, description="AdamW's peak step size.")
    weight_decay: float = Field(default=1e-4, ge=0, description="AdamW's decoupled decay.")
    temperature: float = Field(default=0.07, gt=0, description="Initial softmax temperature; learned from there.")
    gradient_norm_max: float = Field(default=1.0, gt=0, description="Gradients are clipped to this norm.")

    @property
    def gaps_to(self) -> Literal["request", "next"]:
        """Until when an event's time gap counts: the request, or what followed the event, alike at all positions."""
        return "next" if self.positions == "all" else "request"

    @property
    def negatives(self) -> Literal["batch", "uniform"]:
        """What a positive competes with besides the uniform draws: the batch's positives, or nothing."""
        return "batch" if self.in_batch_negatives and self.loss == "sampled_softmax" else "uniform"

    @model_validator(mode="after")
    def _heads_divide(self) -> Self:
        if self.encoder == "self_attention" and self.dimension % self.heads:
            raise ValueError(f"towers.heads: {self.heads} does not divide the dimension {self.dimension}")
        return self


class CandidateSettings(_Section):
    """How many candidates each source brings before ranking."""

    two_tower: int = Field(default=100, ge=0, le=2_000, description="Nearest items to the user's embedding.")
    buy_again: int = Field(default=100, ge=0, le=2_000, description="The user's bought items, by decayed frequency.")
    popular: int = Field(default=50, ge=0, le=2_000, description="Items that most users bought in the last 28 days.")
    similar: int = Field(default=50, ge=0, le=2_000, description="Nearest items to the mean of the context items.")
    item_item: int = Field(default=0, ge=0, le=2_000, description="Items that the same users had to do with.")
    bought_next: int = Field(default=0, ge=0, le=2_000, description="What follows the shopper's newest items.")
    bought_together: int = Field(default=0, ge=0, le=2_000, description="What lies in a basket with them.")
    user_user: int = Field(default=0, ge=0, le=2_000, description="What the most similar users had to do with.")
    als: int = Field(default=0, ge=0, le=2_000, description="Matrix factorisation by alternating least squares.")
    bpr: int = Field(default=0, ge=0, le=2_000, description="Matrix factorisation by Bayesian personalised ranking.")
    light_gcn: int = Field(default=0, ge=0, le=2_000, description="A learned filter on the graph of users and items.")
    graph_filter: int = Field(default=0, ge=0, le=2_000, description="A closed-form filter on the same graph.")
    content: int = Field(default=0, ge=0, le=2_000, description="Items of like attributes and words.")
    trending: int = Field(default=0, ge=0, le=2_000, description="Items that more users buy than a while ago.")
    segment: int = Field(default=0, ge=0, le=2_000, description="What users of the same segment buy most.")

    @property
    def further(self) -> tuple[str, ...]:
        """The further sources that are on, in the order of FURTHER."""
        return tuple(name for name in FURTHER if getattr(self, name) > 0)

    @property
    def scored(self) -> tuple[str, ...]:
        """The sources whose score and rank the ranker reads: where further ones are on, these and the two towers."""
        return ("two_tower", *self.further) if self.further else ()


class HeadWeights(_Section):
    """How much each head of the ranker counts; a head of weight 0 is not computed."""

    buys: float = Field(default=1.0, ge=0, description="That the shopper buys the item within the horizon.")
    buys_again: float = Field(default=0.0, ge=0, description="The same for what the shopper has bought before, else 0.")
    value: float = Field(default=0.0, ge=0, description="Money spent on the item within the horizon.")
    rating: float = Field(default=0.0, ge=0, description="The rating that the shopper would give.")

    @model_validator(mode="after")
    def _any_counts(self) -> Self:
        if not self.on:
            raise ValueError("heads: every weight is 0, so that nothing would rank the items")
        return self

    @property
    def on(self) -> tuple[str, ...]:
        """The heads that count, in order."""
        return tuple(name for name in type(self).model_fields if getattr(self, name) > 0)


class HeadLossWeights(HeadWeights):
    """What each head adds to the ranker's loss; heads of weight 0 are not trained."""

    buys: float = Field(default=1.0, gt=0, description="Never 0: validation and calibration read it.")


class RankerSettings(_Section):
    """Shape and training of the ranker."""

    hidden: tuple[Annotated[int, Field(ge=1)], Annotated[int, Field(ge=1)]] = Field(
        default=(64, 32), description="Units of the two hidden layers."
    )
    vector_weight: float = Field(
        default=1.0,
        ge=0,
        description="What the user's and the item's vectors weigh among the inputs; 0 leaves them out, as towers that "
        "are trained for each cut ask for: each has a space of its own.",
    )
    cuts: int = Field(default=3, ge=1, le=24, description="Training moments, each asked as of its own day.")
    cut_every_days: int = Field(default=30, ge=1, description="Days between two training moments.")
    horizon_days: int = Field(default=30, ge=1, description="A candidate is positive when bought within these days.")
    repeats: bool = Field(
        default=True,
        description="Whether it learns to rank what a user had before, too; false for a shop where nobody comes back "
        "to an item and placements exclude what was bought.",
    )
    loss: Literal["binary", "listwise"] = Field(
        default="binary",
        description="binary: cross-entropy of each candidate; listwise: of the softmax over a request's candidates.",
    )
    negatives_max: int = Field(
        default=0, ge=0, description="Candidates of a request that were not bought and are learned from; 0: all."
    )
    positive_weight: float = Field(default=1.0, gt=0, description="What a bought candidate counts in the binary loss.")
    heads: HeadLossWeights = Field(default=HeadLossWeights(), description="What is learned beside buying.")
    dropout: float = Field(default=0.0, ge=0, lt=1, description="Share of hidden units that are dropped in training.")
    epochs_max: int = Field(default=4, ge=1, description="Passes over the training candidates.")
    patience: int = Field(default=1, ge=1, description="Epochs without gain on validation before training stops.")
    batch_size: int = Field(default=8_192, ge=1, description="Candidates in a step.")
    learning_rate: float = Field(default=4e-3, gt=0, description="AdamW's peak step size.")
    weight_decay: float = Field(default=1e-4, ge=0, description="AdamW's decoupled decay.")
    gradient_norm_max: float = Field(default=1.0, gt=0, description="Gradients are clipped to this norm.")


class TrainingSettings(_Section):
    """Which time is learned from, and where it runs."""

    train_end: datetime | None = Field(
        default=None, description="Events from then on are never learned from; default: just after the last event."
    )
    validation_days: int = Field(default=30, ge=1, description="The last days before train_end, for tuning.")
    towers_end: Literal["first_cut", "each_cut"] = Field(
        default="first_cut",
        description='Until when the towers learn that make examples for the ranker: "first_cut", where the first cut '
        'begins, one training for all; "each_cut", a training for each cut, so that the newest loses nothing.',
    )
    sources_end: Literal["cut", "towers"] = Field(
        default="cut",
        description='What the further sources and the statistics of items learn from: "cut", everything before the '
        'moment that they are asked for or served from; "towers", only what the towers learned from too.',
    )
    item_users_min: int = Field(
        default=0, ge=0, description="Users who must have bought an item before it is recommended; 0 admits all items."
    )
    seed: int = Field(default=17, ge=0, description="Seed of every random choice.")
    device: Literal["auto", "cpu", "cuda"] = Field(default="auto", description="auto: CUDA when there is one.")
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        default="auto",
        description="Of training's forward pass; auto: bfloat16 on CUDA, float32 on the CPU. Weights stay float32.",
    )
    threads: int = Field(default=0, ge=0, description="torch threads; 0 means one for each core.")

    def learned_until_s(self, as_of_s: int, towers_until_s: int) -> int:
        """Up to when sources and statistics learn that are asked as of a moment, beside towers that end at another."""
        return as_of_s if self.sources_end == "cut" else min(as_of_s, towers_until_s)

    @field_validator("train_end")
    @classmethod
    def _aware(cls, value: datetime | None, info: ValidationInfo) -> datetime | None:
        if value is not None and value.tzinfo is None:
            raise ValueError(f"{info.field_name} needs a time zone: {value.isoformat()}; append Z for UTC")
        return value


class LearningSettings(_Section):
    """All of a shop's sections that learning and retrieval read."""

    features: FeatureSettings = FeatureSettings()
    towers: TowerSettings = TowerSettings()
    candidates: CandidateSettings = CandidateSettings()
    sources: SourceSettings = SourceSettings()
    ranker: RankerSettings = RankerSettings()
    training: TrainingSettings = TrainingSettings()

    @model_validator(mode="after")
    def _spaces_agree(self) -> Self:
        if self.training.towers_end == "each_cut" and self.ranker.cuts > 1 and self.ranker.vector_weight > 0:
            raise ValueError(
                'training.towers_end "each_cut" gives every cut vectors of another space: ranker.vector_weight '
                f"must be 0 (it is {self.ranker.vector_weight})"
            )
        return self

    @model_validator(mode="after")
    def _labels_end_in_time(self) -> Self:
        horizon_days, validation_days = self.ranker.horizon_days, self.training.validation_days
        if horizon_days > validation_days:
            raise ValueError(
                f"ranker.horizon_days {horizon_days} is longer than training.validation_days {validation_days}: the "
                "ranker would be judged by events after train_end"
            )
        return self
